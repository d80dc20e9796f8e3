package agent

import (
	"bufio"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/containerhook/containerhook/test/api/controlplane"
)

func TestKubectlPrintsTheContainersOfANode(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	n.startAgent()
	namespace := "shop-of-" + n.name
	web := n.begin(ofPod(namespace, "web-7d4b9c6f5-x2x9k", "main", "docker.io/library/shop:1.4"))
	job := n.newID()
	n.must("create", "--bundle", n.bundle(job, ofPod(namespace, "migrate-9xkqz", "run", "docker.io/library/shop:1.4"), "exit", "3"), job)
	n.must("start", job)
	other := n.begin(nil)
	n.told(time.Minute, map[string]fate{web: running, job: ended(3), other: running})

	onNode := "spec.nodeName=" + n.name
	for _, c := range []struct {
		selector string
		want     []string
	}{
		{onNode, []string{web, job, other}},
		{"spec.pod.namespace=" + namespace, []string{web, job}},
		{onNode + ",status.state=Running", []string{web, other}},
		{onNode + ",status.state=Stopped", []string{job}},
		{"spec.pod.name=migrate-9xkqz," + onNode, []string{job}},
		{"spec.containerID=" + other, []string{other}},
		{onNode + ",spec.runtime.name=crun", nil},
	} {
		got := strings.Fields(n.kubectl("get", "nodecontainers", "--field-selector", c.selector, "--no-headers",
			"-o", "custom-columns=ID:.spec.containerID"))
		if diff := cmp.Diff(set(c.want), set(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.selector, diff)
		}
	}

	want := map[string]map[string]string{}
	for _, c := range []struct{ id, state, namespace, pod, container, image, exit string }{
		{web, "Running", namespace, "web-7d4b9c6f5-x2x9k", "main", "docker.io/library/shop:1.4", ""},
		{job, "Stopped", namespace, "migrate-9xkqz", "run", "docker.io/library/shop:1.4", "3"},
		{other, "Running", "", "", "", "", ""},
	} {
		want[c.id] = map[string]string{"NODE": n.name, "RUNTIME": "runc", "STATE": c.state, "NAMESPACE": c.namespace, "POD": c.pod,
			"CONTAINER": c.container, "ID": c.id, "IMAGE": c.image, "EXIT": c.exit}
	}
	wide := n.kubectl("get", "nodecontainers", "-o", "wide", "--field-selector", onNode)
	t.Logf("kubectl get nodecontainers -o wide:\n%s", wide)
	got := map[string]map[string]string{}
	for _, row := range controlplane.Table(wide) {
		for _, column := range []string{"NAME", "PID", "STARTED", "AGE"} {
			if row[column] == "" || row[column] == "<none>" {
				t.Errorf("%s is %q of %s", column, row[column], row["ID"])
			}
			delete(row, column)
		}
		got[row["ID"]] = row
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKubectlWatchesAContainerComeAndGo(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	n.startAgent()
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := n.plane.KubectlCommand(ctx, "get", "nctr", "-w", "--field-selector", "spec.nodeName="+n.name,
		"--no-headers", "-o", "custom-columns=ID:.spec.containerID,STATE:.status.state,EXIT:.status.exitCode")
	if err != nil {
		t.Fatal(err)
	}
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- strings.Join(strings.Fields(scanner.Text()), " ")
		}
	}()
	defer func() {
		cancel()
		for range lines { // to its end, before Wait closes it
		}
		_ = watch.Wait() // it was killed
	}()
	next := func(want string) {
		t.Helper()
		timeout := time.After(30 * time.Second)
		for {
			select {
			case line := <-lines:
				if line == want {
					return
				}
				t.Logf("watched: %s", line) // created, and not yet with a status
			case <-timeout:
				t.Fatalf("%q was not watched", want)
			}
		}
	}

	id := n.begin(nil)
	next(id + " Running <none>")
	n.end(id)
	next(id + " Stopped 137")
}

func (n *node) kubectl(args ...string) string {
	n.t.Helper()
	out, err := n.plane.Kubectl(n.t.Context(), args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

func set(names []string) map[string]bool {
	s := map[string]bool{}
	for _, name := range names {
		s[name] = true
	}
	return s
}
