package printer

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/event/eventtest"
	"github.com/containerhook/containerhook/internal/golden"
	"github.com/containerhook/containerhook/internal/object"
)

// lives are the objects of a few containers from their creation to their end, in the order of their events.
func lives(t *testing.T) []*v1alpha1.NodeContainer {
	var objects []*v1alpha1.NodeContainer
	options := object.Options{NodeName: "node-1", BootID: eventtest.BootID, Now: func() time.Time { return eventtest.Epoch }}
	for i, name := range []string{"runc-spec", "containerd-cri-container", "podman-restricted", "docker-privileged", "crio-container"} {
		e := eventtest.Created(name, eventtest.Config(t, name))
		e.State, e.Init.PID = event.Creating, 0
		if strings.HasPrefix(name, "podman") {
			e.Name = "restricted"
		}
		next := *object.New(&e, &options)
		apply := func() {
			next.Status = object.Next(&next, &e, e.Source, "", &options)
			objects = append(objects, next.DeepCopy())
		}
		apply()
		e.State, e.Init.PID = event.Created, int32(4000+i)
		apply()
		e.State, e.StartTime = event.Running, eventtest.Epoch
		apply()
		code := int32(137 * (i % 2))
		e.State, e.FinishTime, e.ExitCode, e.Reason = event.Stopped, eventtest.Epoch, &code, event.Completed
		if code != 0 {
			e.Signal, e.Reason = 9, event.OOMKilled
		}
		apply()
	}
	return objects
}

func printed(t *testing.T, format string, objects []*v1alpha1.NodeContainer) []byte {
	t.Helper()
	var out bytes.Buffer
	p, err := New(&out, format)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if err := p.Print(object); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestPrinterIsAsGolden(t *testing.T) {
	all := lives(t)
	for format, objects := range map[string][]*v1alpha1.NodeContainer{
		Table: all, Wide: all, YAML: all[6:8], JSON: all[6:8],
	} {
		golden.Check(t, filepath.Join("testdata", "print", format+".txt"), printed(t, format, objects))
	}
}

func TestTableIsAlignedAcrossLinesAndHasOneHeader(t *testing.T) {
	for _, format := range []string{Table, Wide} {
		lines := strings.Split(strings.TrimSuffix(string(printed(t, format, lives(t))), "\n"), "\n")
		if strings.Count(strings.Join(lines, "\n"), "RUNTIME") != 1 {
			t.Errorf("%s: want one header", format)
		}
		state := strings.Index(lines[0], "STATE")
		for _, line := range lines[1:] {
			if !strings.HasPrefix(line[state:], "Creat") && !strings.HasPrefix(line[state:], "Running ") && !strings.HasPrefix(line[state:], "Stopped ") {
				t.Errorf("%s: the state is not below its header: %q", format, line)
			}
		}
	}
}

func TestYAMLAndJSONDecodeStrictlyIntoWhatWasPrinted(t *testing.T) {
	objects := lives(t)
	documents := strings.Split(strings.TrimPrefix(string(printed(t, YAML, objects)), "---\n"), "\n---\n")
	lines := strings.Split(strings.TrimSuffix(string(printed(t, JSON, objects)), "\n"), "\n")
	if len(documents) != len(objects) || len(lines) != len(objects) {
		t.Fatalf("got %d documents and %d lines of %d objects", len(documents), len(lines), len(objects))
	}
	for i, want := range objects {
		var fromYAML, fromJSON v1alpha1.NodeContainer
		if err := yaml.UnmarshalStrict([]byte(documents[i]), &fromYAML); err != nil {
			t.Fatal(err)
		}
		unmarshal(t, []byte(lines[i]), &fromJSON)
		for format, got := range map[string]*v1alpha1.NodeContainer{YAML: &fromYAML, JSON: &fromJSON} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", format, diff)
			}
			if got.APIVersion != "containerhook.io/v1alpha1" || got.Kind != "NodeContainer" || got.Name == "" {
				t.Errorf("%s: printed a %q %q named %q", format, got.APIVersion, got.Kind, got.Name)
			}
		}
	}
}

func unmarshal(t *testing.T, data []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func TestTableOfAContainerOfWhichNothingIsKnown(t *testing.T) {
	got := strings.Fields(string(printed(t, Wide, []*v1alpha1.NodeContainer{{}})))
	columns := len(tableColumns) + len(wideColumns)
	if len(got) != 2*columns || strings.Count(strings.Join(got, " "), "<none>") != columns {
		t.Errorf("got %q, want %d headers and as many <none>", got, columns)
	}
}

func TestPrinterRefusesAnUnknownFormat(t *testing.T) {
	if _, err := New(new(bytes.Buffer), "xml"); err == nil || !strings.Contains(err.Error(), "table, wide, yaml, json") {
		t.Errorf("got %v, want an error that names the formats", err)
	}
}

type broken struct{}

var errBroken = errors.New("broken pipe")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestPrinterReturnsTheErrorOfItsOutput(t *testing.T) {
	for _, format := range []string{Table, Wide, YAML, JSON} {
		p, err := New(broken{}, format)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Print(lives(t)[0]); !errors.Is(err, errBroken) {
			t.Errorf("%s: got %v", format, err)
		}
	}
}
