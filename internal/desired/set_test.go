package desired

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/event/eventtest"
	"github.com/containerhook/containerhook/internal/golden"
	"github.com/containerhook/containerhook/internal/object"
)

func testOptions() Options {
	return Options{Options: object.Options{NodeName: "node-1", BootID: eventtest.BootID, Now: func() time.Time { return eventtest.Epoch }}}
}

// A script is events, and what the Set made of them. Each line is an event, and below it stands, indented, the object
// as Apply returned it; -update writes those. Words of an event:
//
//	set max=N sandboxes host-net=N         a new Set with these options
//	ID STATE [config=NAME] [exit=N] …      an event of container ID; config is a file of eventtest.Configs
//	repeat ID                              the last event of container ID once more
func TestSetFollowsItsScripts(t *testing.T) { golden.Scripts(t, "testdata/script", play) }

func play(t *testing.T, script string) []byte {
	var out bytes.Buffer
	set, last := NewSet(testOptions()), map[string]event.Event{}
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "    ") {
			continue // what it was last time
		}
		out.WriteString(line)
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if words[0] == "set" {
			set, last = NewSet(optionsOf(t, words[1:])), map[string]event.Event{}
			continue
		}
		e, repeated := last[words[len(words)-1]]
		if words[0] != "repeat" {
			e, repeated = eventtest.Event(t, line), true
		}
		if !repeated {
			t.Fatalf("%q: no such event", line)
		}
		last[e.ID] = e
		object, changed := set.Apply(e)
		fmt.Fprintf(&out, "    %s\n", told(object, changed, set.Counts().Dropped))
	}
	return out.Bytes()
}

func optionsOf(t *testing.T, words []string) Options {
	o := testOptions()
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		number, err := strconv.Atoi(value)
		if err != nil && key != "sandboxes" {
			t.Fatalf("%q: %v", word, err)
		}
		switch key {
		case "max":
			o.MaxObjects = number
		case "sandboxes":
			o.Sandboxes = true
		case "host-net":
			host := event.Namespaces{Network: uint32(number)}
			o.HostNamespaces = func() event.Namespaces { return host }
		default:
			t.Fatalf("option %q is unknown", word)
		}
	}
	return o
}

// told is an object in one line: what the script is about.
func told(c *v1alpha1.NodeContainer, changed bool, dropped int) string {
	if c == nil {
		return fmt.Sprintf("nothing; dropped %d", dropped)
	}
	var b strings.Builder
	b.WriteString(map[bool]string{true: "changed: ", false: "same: "}[changed])
	s := c.Status
	fmt.Fprintf(&b, "%s %s pid=%d", c.Name, s.State, s.PID)
	if s.Namespaces.Network != 0 {
		fmt.Fprintf(&b, " net=%d shared=%v", s.Namespaces.Network, s.HostNamespaces)
	}
	if s.StartTime != nil {
		fmt.Fprintf(&b, " start=%ds", int(s.StartTime.Sub(eventtest.Epoch).Seconds()))
	}
	if s.FinishTime != nil {
		fmt.Fprintf(&b, " finish=%ds", int(s.FinishTime.Sub(eventtest.Epoch).Seconds()))
	}
	if s.ExitCode != nil {
		fmt.Fprintf(&b, " exit=%d", *s.ExitCode)
	}
	if s.Signal != 0 {
		fmt.Fprintf(&b, " signal=%d", s.Signal)
	}
	if s.OOMKilled {
		b.WriteString(" oom")
	}
	if s.Reason != "" {
		fmt.Fprintf(&b, " %s", s.Reason)
	}
	fmt.Fprintf(&b, "; entrypoint %q;", c.Spec.Entrypoint)
	for _, condition := range s.Conditions {
		fmt.Fprintf(&b, " %s=%s/%s", condition.Type, condition.Status, condition.Reason)
		if condition.Message != "" {
			fmt.Fprintf(&b, "(%s)", condition.Message)
		}
	}
	return b.String()
}

// Whoever got an object may read it while the Set goes on.
func TestObjectsAlreadyReturnedAreNotChanged(t *testing.T) {
	set := NewSet(testOptions())
	e := eventtest.Created("podman-restricted", eventtest.Config(t, "podman-restricted"))
	first, _ := set.Apply(e)
	before := first.DeepCopy()

	done := make(chan struct{})
	go func() { // with -race this finds a write to what was returned
		defer close(done)
		for range 100 {
			_, _ = json.Marshal(first)
		}
	}()
	e.Spec = nil
	for _, state := range []event.State{event.Running, event.Stopped} {
		e.State, e.Problem = state, "something"
		if object, changed := set.Apply(e); !changed || object == first {
			t.Errorf("%s: changed %t, the same object %t", state, changed, object == first)
		}
	}
	<-done
	if diff := cmp.Diff(before, first); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

func TestSetIsBoundedByDefault(t *testing.T) {
	set := NewSet(testOptions())
	for i := range DefaultMaxObjects + 100 {
		e := eventtest.Event(t, fmt.Sprintf("c%d Stopped reason=Completed exit=0 finish=%[1]d", i))
		if object, changed := set.Apply(e); object == nil || !changed {
			t.Fatalf("container %d was not taken in", i)
		}
	}
	if got := len(set.members); got != DefaultMaxObjects || set.Counts().Dropped != 100 {
		t.Errorf("%d containers are kept and %d dropped", got, set.Counts().Dropped)
	}
	if object, changed := set.Apply(eventtest.Event(t, "c100 Stopped")); changed || object == nil {
		t.Error("the first to finish of those that may stay was forgotten")
	}
}

// TestWhatHasEndedAndIsInTheAPIGoesBeforeTheSetIsFull: it takes memory, and serves nobody.
func TestWhatHasEndedAndIsInTheAPIGoesBeforeTheSetIsFull(t *testing.T) {
	set := NewSet(testOptions())
	for i := range maxEnded + 100 {
		object, _ := set.Apply(eventtest.Event(t, fmt.Sprintf("c%d Stopped reason=Completed exit=0 finish=%[1]d", i)))
		set.Begin(object.Name)
		set.Settled(object)
	}
	if got := len(set.members); got != maxEnded || set.Counts().Dropped != 0 {
		t.Errorf("%d containers are kept and %d dropped", got, set.Counts().Dropped)
	}
}

// TestALivingContainerThatIsLeftOutStaysOut: its facts came with its first event, and a later one has none.
func TestALivingContainerThatIsLeftOutStaysOut(t *testing.T) {
	o := testOptions()
	o.MaxObjects = 1
	set := NewSet(o)
	set.Apply(eventtest.Event(t, "a Running pid=7 start=1"))
	set.Apply(eventtest.Event(t, "b Running pid=8 start=1"))
	if c := set.Counts(); c.Live != 1 || c.LeftOut != 1 || c.Dropped != 1 {
		t.Errorf("with one too many: %+v", c)
	}
	set.Apply(eventtest.Event(t, "a Stopped pid=7 exit=0 finish=2"))
	if object, changed := set.Apply(eventtest.Event(t, "b Running pid=8 start=1 listed")); object != nil || changed {
		t.Error("it was taken in later, without its facts")
	}
	set.Apply(eventtest.Event(t, "b Stopped pid=8 exit=0 finish=3"))
	if c := set.Counts(); c.LeftOut != 0 || c.Dropped != 1 {
		t.Errorf("once it has ended: %+v", c)
	}
	if object, _ := set.Apply(eventtest.Event(t, "c Running pid=9 start=4")); object == nil {
		t.Error("another one was not taken in")
	}
}

func TestTimesAreStoredAsTheAPIStoresThem(t *testing.T) {
	set := NewSet(testOptions())
	e := eventtest.Created("runc-spec", eventtest.Config(t, "runc-spec"))
	e.CreateTime = time.Date(2026, 11, 24, 13, 0, 0, 123456789, time.FixedZone("CET", 3600))
	object, _ := set.Apply(e)
	var readBack v1alpha1.NodeContainer
	raw, err := json.Marshal(object)
	if err = errors.Join(err, json.Unmarshal(raw, &readBack)); err != nil {
		t.Fatal(err)
	}
	if !readBack.Status.CreateTime.Equal(object.Status.CreateTime) {
		t.Errorf("%v is read back as %v", object.Status.CreateTime, readBack.Status.CreateTime)
	}
}
