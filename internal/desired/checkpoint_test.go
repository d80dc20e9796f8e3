package desired

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/event/eventtest"
)

func TestACheckpointBringsBackWhatItSaved(t *testing.T) {
	set, dir := NewSet(testOptions()), t.TempDir()
	for _, words := range []string{"a Creating config=containerd-pod pid=7", "b Creating pid=8", "b Stopped exit=3 finish=2"} {
		e := eventtest.Event(t, strings.ReplaceAll(words, "containerd-pod", eventtest.Configs(t)[0]))
		set.Apply(e)
	}
	checkpoint := NewCheckpoint(set, dir)
	save := func() {
		t.Helper()
		if err := checkpoint.Save(); err != nil {
			t.Fatal(err)
		}
	}
	save() // each change after this must get into the next
	object, _ := set.Apply(eventtest.Event(t, "a Running pid=7 start=1"))
	save()
	set.Created(object.Name, true)
	save()
	set.Settled(object)
	save()

	next := NewSet(testOptions())
	known, err := NewCheckpoint(next, dir).Load(time.Minute)
	if err != nil || len(known) != 2 {
		t.Fatalf("%d containers, %v", len(known), err)
	}
	for _, c := range known {
		if want := set.members[c.Key()].Container; c.State != want.State || c.Init != want.Init {
			t.Errorf("%+v, want %+v", c, want)
		}
	}
	if diff := cmp.Diff(set.members, next.members, cmpopts.IgnoreUnexported(member{})); diff != "" {
		t.Errorf("(-saved +loaded):\n%s", diff)
	}
	if diff := cmp.Diff(set.BeginAll(), next.BeginAll()); diff != "" || len(next.BeginAll()) != 1 {
		t.Errorf("to be written (-saved +loaded):\n%s", diff)
	}
	again, changed := next.Apply(eventtest.Event(t, "a Running pid=7 start=1 listed"))
	if changed {
		t.Errorf("%+v is news", again)
	}
}

func TestACheckpointThatIsNoneIsAnErrorAndAnEmptySet(t *testing.T) {
	set, good := NewSet(testOptions()), t.TempDir()
	set.Apply(eventtest.Event(t, "a Running start=1"))
	if err := NewCheckpoint(set, good).Save(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(good, "containers.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw   string
		fails bool
	}{
		"empty":               {"", true},
		"cut off":             {string(whole[:len(whole)/2]), true},
		"something else":      {"[]", true},
		"another version":     {strings.Replace(string(whole), `"Version":1`, `"Version":2`, 1), true},
		"of another boot":     {strings.Replace(string(whole), eventtest.BootID, "another", 1), false},
		"of another node":     {strings.Replace(string(whole), `"NodeName":"node-1"`, `"NodeName":"node-2"`, 1), false},
		"a member of nothing": {`{"Version":1,"NodeName":"node-1","BootID":"` + eventtest.BootID + `","Members":[null,{}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, next := t.TempDir(), NewSet(testOptions())
			if err := os.WriteFile(filepath.Join(dir, "containers.json"), []byte(c.raw), 0o600); err != nil {
				t.Fatal(err)
			}
			known, err := NewCheckpoint(next, dir).Load(time.Minute)
			if (err != nil) != c.fails || len(known) != 0 || len(next.members) != 0 {
				t.Errorf("%d known, %d members, %v", len(known), len(next.members), err)
			}
		})
	}
	if known, err := NewCheckpoint(NewSet(testOptions()), filepath.Join(t.TempDir(), "new")).Load(time.Minute); err != nil || known != nil {
		t.Errorf("none at all: %v, %v", known, err)
	}
}

func TestACheckpointIsWholeOrAsItWas(t *testing.T) {
	set, dir := NewSet(testOptions()), t.TempDir()
	checkpoint := NewCheckpoint(set, dir)
	set.Apply(eventtest.Event(t, "a Running start=1"))
	if err := checkpoint.Save(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "containers.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.Mkdir(filepath.Join(dir, "containers.json.next"), 0o700); err != nil { // it cannot be written any more
		t.Fatal(err)
	}
	set.Apply(eventtest.Event(t, "b Running start=1"))
	if checkpoint.Save() == nil {
		t.Error("saved where nothing can be written")
	}
	if known, err := NewCheckpoint(NewSet(testOptions()), dir).Load(time.Minute); err != nil || len(known) != 1 {
		t.Errorf("%d containers, %v", len(known), err)
	}
}

// A later container of the same ID is what the ID means.
func TestKnownContainersComeInTheirOrder(t *testing.T) {
	set, dir := NewSet(testOptions()), t.TempDir()
	for i, words := range []string{"a Stopped exit=0 ticks=100", "a Running start=5 ticks=300", "a Stopped exit=0 ticks=200"} {
		e := eventtest.Event(t, words)
		e.CreateTime = eventtest.Epoch.Add(time.Duration([]int{1, 3, 2}[i]) * time.Second)
		set.Apply(e)
	}
	if err := NewCheckpoint(set, dir).Save(); err != nil {
		t.Fatal(err)
	}
	known, err := NewCheckpoint(NewSet(testOptions()), dir).Load(time.Minute)
	if err != nil || len(known) != 3 || known[2].State != event.Running {
		t.Errorf("%+v, %v", known, err)
	}
}

func TestASandboxOfACheckpointIsToldWhereSandboxesAreAskedForNow(t *testing.T) {
	for name, c := range map[string]struct{ before, now, told bool }{
		"never":        {false, false, false},
		"now":          {false, true, true},
		"always":       {true, true, true},
		"not any more": {true, false, true}, // the API has it, and it must not say Running for ever
	} {
		t.Run(name, func(t *testing.T) {
			options, dir := testOptions(), t.TempDir()
			options.Sandboxes = c.before
			set := NewSet(options)
			set.Apply(eventtest.Event(t, "a Running config=containerd-cri-sandbox pid=7 start=1"))
			if err := NewCheckpoint(set, dir).Save(); err != nil {
				t.Fatal(err)
			}
			options.Sandboxes = c.now
			next := NewSet(options)
			if _, err := NewCheckpoint(next, dir).Load(time.Minute); err != nil {
				t.Fatal(err)
			}
			if told := len(next.BeginAll()) == 1; told != c.told {
				t.Errorf("told: %v", told)
			}
			if _, changed := next.Apply(eventtest.Event(t, "a Stopped pid=7 exit=0 finish=2")); changed != c.told {
				t.Errorf("its end is told: %v", changed)
			}
		})
	}
}

func TestASandboxThatEndedBeforeSandboxesWereAskedForIsNotTold(t *testing.T) {
	options, dir := testOptions(), t.TempDir()
	set := NewSet(options)
	set.Apply(eventtest.Event(t, "a Running config=containerd-cri-sandbox pid=7 start=1"))
	set.Apply(eventtest.Event(t, "a Stopped pid=7 exit=0 finish=2"))
	if err := NewCheckpoint(set, dir).Save(); err != nil {
		t.Fatal(err)
	}
	options.Sandboxes = true
	next := NewSet(options)
	if _, err := NewCheckpoint(next, dir).Load(time.Minute); err != nil {
		t.Fatal(err)
	}
	if told := next.BeginAll(); len(told) > 0 {
		t.Errorf("told: %v", told)
	}
}

// TestNobodyWaitsForACheckpointThatHangs: a FIFO that nobody reads holds its writer, as a file system that is gone.
func TestNobodyWaitsForACheckpointThatHangs(t *testing.T) {
	set, dir := NewSet(testOptions()), t.TempDir()
	checkpoint := NewCheckpoint(set, dir)
	set.Apply(eventtest.Event(t, "a Running start=1"))
	fifo := filepath.Join(dir, "containers.json.next")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}

	if err := checkpoint.Save(); !errors.Is(err, ErrHangs) || !strings.Contains(err.Error(), dir) {
		t.Errorf("it hangs: %v", err)
	}
	if got := checkpoint.Hanging(); !strings.HasPrefix(got, dir) {
		t.Errorf("what hangs: %q", got)
	}
	began := time.Now()
	if err := checkpoint.Save(); !errors.Is(err, ErrHangs) || time.Since(began) > saveTimeout {
		t.Errorf("again, after %v: %v", time.Since(began), err)
	}

	reader, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for deadline := time.Now().Add(30 * time.Second); checkpoint.Hanging() != ""; {
		if time.Now().After(deadline) {
			t.Fatal("it hangs although the file system answers")
		}
	}
	if err := os.Remove(filepath.Join(dir, "containers.json")); err != nil { // the FIFO, renamed
		t.Fatal(err)
	}
	set.Apply(eventtest.Event(t, "b Running start=1"))
	if err := checkpoint.Save(); err != nil {
		t.Errorf("after its answer: %v", err)
	}
}
