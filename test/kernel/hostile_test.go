package kernel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

const (
	canary  = "canary-5e1f" // only in what nobody may see
	anybody = 54321         // a user whom the machine does not know
	refused = 99            // the probe's exit code where a runtime's command is asked for
)

// attacker is who executes a marked binary.
type attacker struct {
	name string
	uid  uint32
	in   []string // what goes before the command
}

var attackers = []attacker{
	{name: "a user", uid: anybody},
	{name: "a user namespace", uid: anybody, in: []string{"unshare", "--user", "--map-root-user", "--"}},
	{name: "root"},
}

// command prepares argv, whose first is a path, to be executed by the attacker.
func (by attacker) command(argv ...string) *exec.Cmd {
	argv = append(append([]string{}, by.in...), argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: by.uid, Gid: by.uid}}
	return cmd
}

// attack is a create that somebody made to mislead the agent, or to have it show what he may not see.
type attack struct {
	what string
	// prepare fills dir, which is the attacker's and the working directory, and returns what follows "create". secret is a
	// directory of root's, with a config.json that others cannot read.
	prepare func(dir, secret string) ([]string, error)
	id      string // where it is not one that is valid
	counted string // the lookup failure that tells of it; empty where there is none
}

// linked makes config.json a symlink to what name makes of the secret's path.
func linked(name func(secret string) string) func(dir, secret string) ([]string, error) {
	return func(dir, secret string) ([]string, error) {
		return []string{"--bundle", dir}, os.Symlink(name(secret+"/config.json"), filepath.Join(dir, "config.json"))
	}
}

// written makes config.json say what content is.
func written(content func() []byte) func(dir, secret string) ([]string, error) {
	return func(dir, _ string) ([]string, error) {
		return []string{"--bundle", dir}, os.WriteFile(filepath.Join(dir, "config.json"), content(), 0o644)
	}
}

func named(id string) attack {
	return attack{what: fmt.Sprintf("the ID %.20q", id), id: id, counted: "id", prepare: plain}
}

func plain(dir, _ string) ([]string, error) { return []string{"--bundle", dir}, nil }

var attacks = []attack{
	{what: "a bundle that is not there", counted: "config",
		prepare: func(string, string) ([]string, error) { return []string{"--bundle", "/no/such"}, nil }},
	{what: "a bundle that is empty", counted: "config", prepare: plain},
	{what: "a FIFO", counted: "config", prepare: func(dir, _ string) ([]string, error) {
		return []string{"--bundle", dir}, unix.Mkfifo(filepath.Join(dir, "config.json"), 0o666)
	}},
	{what: "a device", counted: "config", prepare: func(dir, _ string) ([]string, error) {
		return []string{"--bundle", dir}, unix.Mknod(filepath.Join(dir, "config.json"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
	}},
	{what: "a directory", counted: "config", prepare: func(dir, _ string) ([]string, error) {
		return []string{"--bundle", dir}, os.Mkdir(filepath.Join(dir, "config.json"), 0o755)
	}},
	{what: "a symlink to a secret", counted: "config", prepare: linked(func(s string) string { return s })},
	{what: "a symlink with ..", counted: "config",
		prepare: linked(func(s string) string { return strings.Repeat("../", 40) + s })},
	{what: "a magic link to a secret", counted: "config", prepare: linked(func(s string) string { return "/proc/self/root" + s })},
	{what: "a magic link to another process's root", counted: "config",
		prepare: linked(func(s string) string { return fmt.Sprintf("/proc/%d/root%s", os.Getpid(), s) })},
	{what: "a hard link to a secret", counted: "config", prepare: func(dir, secret string) ([]string, error) {
		return []string{"--bundle", dir}, os.Link(secret+"/config.json", filepath.Join(dir, "config.json"))
	}},
	{what: "a secret's own directory", counted: "config",
		prepare: func(_, secret string) ([]string, error) { return []string{"--bundle", secret}, nil }},
	{what: "crun's --config with a secret", counted: "config",
		prepare: func(_, secret string) ([]string, error) { return []string{"--config", secret + "/config.json"}, nil }},
	{what: "a file of the kernel", counted: "config", prepare: linked(func(string) string { return "/proc/kmsg" })},
	{what: "its own environment", counted: "config", prepare: linked(func(string) string { return "/proc/self/environ" })},
	{what: "100 MB", counted: "config", prepare: func(dir, _ string) ([]string, error) {
		name := filepath.Join(dir, "config.json")
		return []string{"--bundle", dir}, errors.Join(os.WriteFile(name, []byte("{"), 0o644), os.Truncate(name, 100<<20))
	}},
	{what: "10,000 levels", counted: "config", prepare: written(func() []byte {
		return []byte(`{"annotations":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + "}")
	})},
	{what: "10,000 levels of objects", counted: "config", prepare: written(func() []byte {
		return []byte(strings.Repeat(`{"linux":`, 10_001) + "1" + strings.Repeat("}", 10_001))
	})},
	{what: "4 MB of mounts", counted: "config", prepare: written(func() []byte {
		return []byte(`{"mounts":[` + strings.Repeat("{},", 1<<20) + `{}]}`)
	})},
	{what: "4 MB of one string", prepare: written(func() []byte {
		return []byte(`{"process":{"args":["` + strings.Repeat(`\u0007`, 600_000) + `"]}}`)
	})},
	{what: "control characters in every name", prepare: func(dir, _ string) ([]string, error) {
		const evil = "a\x00b\nc\x1b[2Jd\u202ee\x7f"
		dir = filepath.Join(dir, strings.ReplaceAll(evil, "\x00", ""))
		s := specs.Spec{Hostname: evil, Annotations: map[string]string{evil: evil, "evil": evil,
			"io.kubernetes.cri.container-name": evil, "io.kubernetes.cri.sandbox-name": evil,
			"io.kubernetes.cri.sandbox-namespace": evil, "io.kubernetes.cri.image-name": evil},
			Root: &specs.Root{Path: evil}, Mounts: []specs.Mount{{Destination: "/" + evil, Type: evil, Source: evil}},
			Process: &specs.Process{Args: []string{evil}, ApparmorProfile: evil, SelinuxLabel: evil},
			Hooks:   &specs.Hooks{CreateRuntime: []specs.Hook{{Path: evil}}}, Linux: &specs.Linux{CgroupsPath: evil}}
		raw, err := json.Marshal(s)
		return []string{"--bundle", dir, "--pid-file", "\n"}, errors.Join(err, os.Mkdir(dir, 0o755),
			os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644))
	}},
	{what: "control characters in a path that is not there", counted: "config",
		prepare: func(string, string) ([]string, error) { return []string{"--bundle", "/no\nsuch\x1b[2J\u202epath"}, nil }},
	named(".."), named("."), named("../../etc"), named("a/b"), named("line\nbreak"), named("\x1b[2Jclear"), named("\u202eover"),
	named("nul\xff"), named(strings.Repeat("a", 1025)), named("no blank"), named(canary + "\n"),
}

// hostile is a node that somebody attacks.
type hostile struct {
	*node
	secret string
	ids    map[string]attacker // that an object may have, at most
	execs  int                 // by users
}

// newHostileNode makes a node whose files others can reach, but for the secret.
func newHostileNode(t *testing.T) *hostile {
	t.Helper()
	n := newNode(t)
	h := &hostile{node: n, secret: filepath.Join(n.dir, "secret"), ids: map[string]attacker{}}
	if err := errors.Join(os.Chmod(runDir, 0o711), os.Chmod(n.dir, 0o711), os.Mkdir(h.secret, 0o700),
		os.Mkdir(filepath.Join(n.dir, "theirs"), 0o711)); err != nil {
		t.Fatal(err)
	}
	return h
}

// hide writes the secret that an attacker is after. Root may have us read everything that is a config.json; for root it
// is a file of another kind.
func (h *hostile) hide(by attacker) error {
	text := []byte(canary)
	if by.uid != 0 {
		var err error
		if text, err = json.Marshal(specs.Spec{Process: &specs.Process{Args: []string{canary}}, Hostname: canary,
			Annotations: map[string]string{"io.kubernetes.cri.container-name": canary, "evil": canary}}); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(h.secret, "config.json"), text, 0o600)
}

// try makes one attack, and returns the ID that an object may have.
func (h *hostile) try(by attacker, a attack) (id string, err error) {
	dir, err := os.MkdirTemp(filepath.Join(h.dir, "theirs"), "bundle-")
	if err != nil {
		return "", err
	}
	args, err := a.prepare(dir, h.secret)
	if err != nil {
		return "", err
	}
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		var stat unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &stat)
		}
		if err != nil || stat.Nlink > 1 && stat.Mode&unix.S_IFMT == unix.S_IFREG { // a hard link's file stays root's
			return err
		}
		return os.Lchown(path, int(by.uid), int(by.uid))
	}); err != nil {
		return "", err
	}
	id = a.id
	if id == "" {
		id = fmt.Sprintf("%s-h%d", idPrefix(), made.Add(1))
		h.ids[id] = by
	}
	cmd := by.command(append(append([]string{h.marked, "create"}, args...), id)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "SECRET="+canary)
	if by.uid != 0 {
		h.execs++
	}
	if out, err := bounded(limit, cmd); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != refused {
		return "", fmt.Errorf("the probe did not run: %w: %s", err, out)
	}
	return id, os.RemoveAll(dir)
}

// settled waits until the agent has told of a container that was made after everything else, and returns its ID.
func (a *agent) settled(n *node) string {
	n.t.Helper()
	id, bundle := n.bundle([]string{"exit", "0"}, nil)
	n.must(n.runc, "run", "--bundle", bundle, id)
	a.wait(id, v1alpha1.StateStopped)
	return id
}

// all is every object that was told, by ID.
func (a *agent) all() map[string][]v1alpha1.NodeContainer {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string][]v1alpha1.NodeContainer, len(a.told))
	for id, told := range a.told {
		all[id] = append([]v1alpha1.NodeContainer(nil), told...)
	}
	return all
}

// checkHarmless checks everything that the agent has put out so far: no secret is in it, and nothing that a terminal or a
// reader of lines would obey.
func (a *agent) checkHarmless() {
	a.t.Helper()
	objects, err := json.Marshal(a.all())
	if err != nil {
		a.t.Fatal(err)
	}
	var metrics bytes.Buffer
	if err := get("http://"+a.scrape+"/metrics", &metrics); err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	log := a.stderr.String()
	a.mu.Unlock()
	var tree any
	if err := json.Unmarshal(objects, &tree); err != nil {
		a.t.Fatal(err)
	}
	for what, text := range map[string]string{"objects": string(objects), "log": log, "metrics": metrics.String()} {
		if strings.Contains(text, canary) {
			at := strings.Index(text, canary)
			a.t.Errorf("the secret is in its %s: …%s…", what, text[max(0, at-200):at+len(canary)])
		}
	}
	for what, texts := range map[string][]string{"objects": stringsIn(tree), "log": strings.Split(log, "\n"),
		"metrics": strings.Split(metrics.String(), "\n")} {
		for _, text := range texts {
			if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				a.t.Errorf("what cannot be printed is in its %s: %q", what, text)
			}
		}
	}
}

// stringsIn returns every string in a JSON value.
func stringsIn(v any) (all []string) {
	switch v := v.(type) {
	case string:
		all = append(all, v)
	case []any:
		for _, one := range v {
			all = append(all, stringsIn(one)...)
		}
	case map[string]any:
		for key, one := range v {
			all = append(append(all, key), stringsIn(one)...)
		}
	}
	return all
}

// TestHostileCreatesAreNotBelievedAndGiveNothingAway makes every attack as a user, from a user namespace and as root; the
// agent that tells only of root's containers, and the one that tells of all.
func TestHostileCreatesAreNotBelievedAndGiveNothingAway(t *testing.T) {
	rounds := machine.Volume(3, 6) // of all attacks, after the first two
	for _, rootless := range []bool{false, true} {
		t.Run(fmt.Sprintf("rootless=%v", rootless), func(t *testing.T) {
			h := newHostileNode(t)
			a := h.startAgent(fmt.Sprintf("--rootless=%v", rootless), "--annotation", "evil")
			for range 2 { // from here on it has what it needs
				h.checkAttacks(a, rootless)
			}
			worker := a.worker()
			before := memory(t, worker, "status", "VmHWM:") // what is resident at one moment is the collector's
			h.holdInFlood("hostile creates", func() {
				for round := 0; round < rounds && !t.Failed(); round++ {
					h.checkAttacks(a, rootless)
				}
			})
			a.settled(h.node)
			after := memory(t, worker, "status", "VmHWM:")
			objects := h.checkObjects(a, rootless)
			a.checkHarmless()
			if grown := after - before; grown > 16<<10 { // a round that keeps its config.jsons keeps 6 MiB of root's alone
				t.Errorf("the most that was resident grew by %d KiB", grown)
			}
			if !rootless {
				a.checkUsers(h.execs)
			}
			t.Logf("%d kinds of attack by %d kinds of attacker, %d creates with valid IDs: %d objects; resident at most %.1f → %.1f MiB",
				len(attacks), len(attackers), len(h.ids), objects, float64(before)/1024, float64(after)/1024)
		})
	}
}

// checkUsers checks that so many execs were counted as by users. On a busy machine some are late before anybody looks: a
// tenth at most.
func (a *agent) checkUsers(want int) {
	a.t.Helper()
	got, late := a.metric(rootlessExecs), a.metric(lateExecs)
	if got > float64(want) || got+late < float64(want) || got < 0.9*float64(want) {
		a.t.Errorf("%v execs were counted as by users, and %v as late, want %d", got, late, want)
	}
}

const (
	rootlessExecs = `containerhook_exec_events_total{result="rootless"}`
	lateExecs     = `containerhook_exec_events_total{result="timeout"}`
)

// reasons are the metrics of which one must count an attack; none where it is no failure.
func (attack *attack) reasons(by attacker, rootless bool) []string {
	switch {
	case by.uid != 0 && !rootless:
		return []string{rootlessExecs, lateExecs}
	case attack.counted != "":
		return []string{fmt.Sprintf("containerhook_lookup_failures_total{what=%q}", attack.counted)}
	}
	return nil
}

func (a *agent) sum(metrics []string) (sum float64) {
	a.t.Helper()
	for _, metric := range metrics {
		sum += a.metric(metric)
	}
	return sum
}

// checkAttacks makes each attack once by each attacker, and checks that its reason was counted.
func (h *hostile) checkAttacks(a *agent, rootless bool) {
	for _, by := range attackers {
		if err := h.hide(by); err != nil {
			h.t.Error(err)
		}
		for _, attack := range attacks {
			reasons := attack.reasons(by, rootless)
			before := a.sum(reasons)
			if _, err := h.try(by, attack); err != nil {
				h.t.Errorf("%s: %s: %v", by.name, attack.what, err)
				continue
			}
			if err := poll(5*time.Second, func() error {
				if len(reasons) > 0 && a.sum(reasons) <= before {
					return fmt.Errorf("%v is %v, as before", reasons, before)
				}
				return nil
			}); err != nil {
				h.t.Errorf("%s: %s: %v", by.name, attack.what, err)
				return // each of the others would wait as long
			}
		}
	}
}

// checkObjects checks that an object is told only of whom it may be told, as a create that failed; and returns how many.
func (h *hostile) checkObjects(a *agent, rootless bool) (objects int) {
	h.t.Helper()
	for id, told := range a.all() {
		by, attacked := h.ids[id]
		if !attacked {
			if !validID.MatchString(id) {
				h.t.Errorf("an object was told of the ID %q", id)
			}
			continue
		}
		objects++
		if by.uid != 0 && !rootless {
			h.t.Errorf("an object was told of %s's %s", by.name, id)
		}
		c := last(told)
		if transitions(told) != "Stopped" || c.Status.Reason != v1alpha1.StopCreateFailed || c.Spec.Security.Rootless != (by.uid != 0) {
			h.t.Errorf("%s's %s was told as %s, %s, rootless: %v", by.name, id, transitions(told), c.Status.Reason, c.Spec.Security.Rootless)
		}
	}
	want := 0
	for id, by := range h.ids {
		if by.uid != 0 && !rootless {
			continue
		}
		want++
		if len(a.history(id)) == 0 {
			h.t.Errorf("%s's %s was not told", by.name, id)
		}
	}
	if objects != want {
		h.t.Errorf("%d objects were told, want %d", objects, want)
	}
	return objects
}

// validID is the rule of this run's own IDs.
var validID = regexp.MustCompile(`^t[0-9]+-[a-z]?[0-9]+$`)

// TestADirectorySwappedWhileItIsReadGivesNoSecretAway: the bundle is exchanged all the time with a symlink to the secret's
// directory, while its owner has containers made of it.
func TestADirectorySwappedWhileItIsReadGivesNoSecretAway(t *testing.T) {
	count := machine.Volume(300, 1000)
	h := newHostileNode(t)
	by := attackers[0]
	if err := h.hide(by); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(h.dir, "theirs")
	bundle, link, config := filepath.Join(theirs, "bundle"), filepath.Join(theirs, "link"), filepath.Join(theirs, "bundle", "config.json")
	if err := errors.Join(os.Chown(theirs, anybody, anybody), os.Mkdir(bundle, 0o755), os.Symlink(h.secret, link),
		os.WriteFile(config, []byte(`{"process":{"args":["/own"]}}`), 0o644), os.Chown(config, anybody, anybody)); err != nil {
		t.Fatal(err)
	}
	a := h.startAgent("--rootless", "--deadline", "1s")
	swapped := make(chan int)
	stop := make(chan struct{})
	go func() {
		swaps := 0
		defer func() { swapped <- swaps }()
		for ; ; swaps++ {
			select {
			case <-stop:
				return
			default:
				if err := unix.Renameat2(unix.AT_FDCWD, bundle, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	loop := by.command("/bin/sh", "-c", `i=0; while [ $i -lt $3 ]; do "$0" create --bundle "$1" "$2$i"; [ $? = 99 ] || exit 1; i=$((i+1)); done`,
		h.marked, bundle, idPrefix()+"-s", fmt.Sprint(count))
	if out, err := bounded(limitOf(count), loop); err != nil {
		t.Errorf("the execs: %v: %s", err, lastOf(out))
	}
	close(stop)
	swaps := <-swapped
	a.settled(h.node)
	own, none := 0, 0
	for i := range count {
		switch c := a.wait(fmt.Sprintf("%s-s%d", idPrefix(), i), v1alpha1.StateStopped); c.Spec.Entrypoint {
		case "/own":
			own++
		case "":
			none++
		default:
			t.Errorf("the entrypoint is %q", c.Spec.Entrypoint)
		}
	}
	a.checkHarmless()
	if own == 0 || none == 0 {
		t.Error("nothing was swapped while it was read")
	}
	t.Logf("%d creates while the bundle was swapped %d times: %d told with its own config.json, %d with none, 0 with the secret",
		count, swaps, own, none)
}

// TestArgumentsThatChangeUnderOurEyesAreHarmless: a thread rewrites them while another is held in execve.
func TestArgumentsThatChangeUnderOurEyesAreHarmless(t *testing.T) {
	count := machine.Volume(1500, 5000)
	h := newHostileNode(t)
	a := h.startAgent("--rootless")
	id := idPrefix() + "-f1"
	before := a.usage()
	h.holdInFlood("arguments that change", func() {
		for _, by := range attackers {
			if out, err := bounded(limitOf(count), by.command(h.unmarked, "flip", h.marked, fmt.Sprint(count), id)); err != nil {
				t.Errorf("%s: %v: %s", by.name, err, out)
			}
		}
	})
	a.settled(h.node)
	after := a.idle(before)
	a.checkHarmless()
	objects := 0
	for told, history := range a.all() {
		if told == "" || strings.Trim(told, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.") != "" {
			t.Errorf("an object was told of the ID %q", told)
		}
		if last(history).Status.Reason == v1alpha1.StopCreateFailed {
			objects++
		}
	}
	if objects > len(attackers) {
		t.Errorf("%d objects were told of %d processes", objects, len(attackers))
	}
	results := map[string]float64{}
	for _, result := range []string{"create", "ignored", "error"} {
		if results[result] = a.metric(fmt.Sprintf("containerhook_exec_events_total{result=%q}", result)); results[result] == 0 {
			t.Errorf("none counts as %q: the arguments did not change", result)
		}
	}
	if after.grown(before) || after.followed > 0 {
		t.Errorf("left: %v\nwant: %v", after, before)
	}
	t.Logf("%d execs with arguments that change, counted as %v; the agent before: %v; after: %v", count*len(attackers), results,
		before, after)
}

func TestExecsByAUserAreCountedAndCostNothing(t *testing.T) {
	const users = 4 // at once
	count := machine.Volume(2000, 10_000)
	h := newHostileNode(t)
	a := h.startAgent()
	a.settled(h.node)
	before := a.usage()
	began := time.Now()
	h.holdInFlood("execs by a user without an end", func() {
		var all sync.WaitGroup
		for range users {
			all.Go(func() {
				script := `i=0; while [ $i -lt $1 ]; do "$0" --root /run/runc create x; [ $? = 99 ] || exit 1; i=$((i+1)); done`
				cmd := attackers[0].command("/bin/sh", "-c", script, h.marked, fmt.Sprint(count/users))
				if out, err := bounded(limitOf(count), cmd); err != nil {
					t.Errorf("the execs: %v: %s", err, lastOf(out))
				}
			})
		}
		all.Wait()
	})
	took := time.Since(began)
	a.settled(h.node)
	after := a.idle(before)
	a.checkUsers(count)
	if told := a.history("x"); len(told) > 0 {
		t.Errorf("a user's exec was told: %s", transitions(told))
	}
	if after.grown(before) || after.followed+after.memcgs > 0 ||
		after.rss-before.rss > 6<<10 {
		t.Errorf("left: %v\nwant: %v", after, before)
	}
	t.Logf("%d execs, %.0f a second; the agent before: %v; after: %v", count, float64(count)/took.Seconds(), before, after)
}

// TestRootlessContainersAreToldOnlyWhereTheyAreAskedForAndMarked runs real containers as a user.
func TestRootlessContainersAreToldOnlyWhereTheyAreAskedForAndMarked(t *testing.T) {
	t.Parallel()
	h := newHostileNode(t)
	without := h.startAgent("--deadline", "1s")
	with := h.startAgent("--deadline", "1s", "--rootless")
	state := filepath.Join(h.dir, "theirs", "state")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Chown(state, anybody, anybody)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"proc", "dev"} { // a user could not make them
		if err := os.MkdirAll(filepath.Join(h.rootfs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for runtime, options := range map[string][]string{h.runc: {"--rootless=true"}, h.crun: {"--cgroup-manager=disabled"}} {
		name := filepath.Base(runtime)
		id, bundle := h.bundle([]string{"exit", "6"}, func(s *specs.Spec) {
			light(s)
			mine := []specs.LinuxIDMapping{{HostID: anybody, Size: 1}}
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings, s.Linux.GIDMappings, s.Linux.Resources, s.Linux.CgroupsPath = mine, mine, nil, ""
		})
		if err := errors.Join(os.Chmod(filepath.Dir(bundle), 0o711), os.Chown(bundle, anybody, anybody),
			os.Chown(filepath.Join(bundle, "config.json"), anybody, anybody)); err != nil {
			t.Fatal(err)
		}
		argv := []string{"setpriv", fmt.Sprintf("--reuid=%d", anybody), fmt.Sprintf("--regid=%d", anybody), "--clear-groups",
			runtime, "--root", state}
		argv = apart(append(append(argv, options...), "run", "--bundle", bundle, id)...)
		cmd := exec.Command(argv[0], argv[1:]...)
		if out, err := bounded(limit, cmd); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 6 {
			t.Fatalf("%s as a user: %v: %s", name, err, out)
		}
		c := with.wait(id, v1alpha1.StateStopped)
		if got := transitions(with.history(id)); got != "Creating → Created → Running → Stopped" || c.Status.ExitCode == nil ||
			*c.Status.ExitCode != 6 || !c.Spec.Security.Rootless || !c.Spec.Security.UserNamespace || c.Status.Namespaces.User == 0 || c.Spec.Entrypoint != "/probe" {
			t.Errorf("%s: told as %s: %+v %+v", name, got, c.Spec, c.Status)
		}
		roots := without.settled(h.node)
		if told := without.history(id); len(told) > 0 {
			t.Errorf("%s: told without having been asked for: %s", name, transitions(told))
		}
		if with.wait(roots, v1alpha1.StateStopped).Spec.Security.Rootless {
			t.Error("a container of root's is marked as rootless")
		}
		t.Logf("%s as a user: told as %s with --rootless, not at all without", name, transitions(with.history(id)))
	}
}

// TestNobodyElseSpeaksForAContainer: somebody executes a marked binary that makes nothing, with the ID and the state
// directory of a container of root's, or with a state of his own that names its init.
func TestNobodyElseSpeaksForAContainer(t *testing.T) {
	t.Parallel()
	h := newHostileNode(t)
	silent := h.copyOf("true") // does nothing, and well
	a := h.startAgent("--deadline", "1s", "--rootless", "--runtime-path", silent)
	id, bundle := h.bundle([]string{"sleep"}, nil)
	h.remove(h.runc, id)
	h.must(h.runc, "create", "--bundle", bundle, id)
	a.wait(id, v1alpha1.StateCreated)
	state, err := os.ReadFile(filepath.Join(h.stateRoot, id, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(h.dir, "theirs", "state")
	if err := errors.Join(os.MkdirAll(filepath.Join(theirs, id), 0o755), os.Chown(theirs, anybody, anybody),
		os.Chown(filepath.Join(theirs, id), anybody, anybody),
		os.WriteFile(filepath.Join(theirs, id, "state.json"), state, 0o644)); err != nil {
		t.Fatal(err)
	}
	lie := func() {
		for _, by := range attackers {
			for _, root := range []string{h.stateRoot, theirs} {
				for _, verb := range []string{"create", "run", "restore", "start", "delete"} {
					if out, err := bounded(limit, by.command(silent, "--root", root, verb, id)); err != nil {
						t.Errorf("%s: %s: %v: %s", by.name, verb, err, out)
					}
					conmon := by.command("/bin/bash", "-c", `exec -a conmon "$0" -c "$1" -n `+canary+` -r runc`, silent, id)
					if out, err := bounded(limit, conmon); err != nil {
						t.Errorf("%s: conmon: %v: %s", by.name, err, out)
					}
				}
			}
		}
		a.settled(h.node)
	}
	lie()
	if got := ofRuntime(a.history(id), "runc"); transitions(got) != "Creating → Created" {
		t.Errorf("told as %s before its start", transitions(got))
	}
	h.must(h.runc, "start", id)
	a.wait(id, v1alpha1.StateRunning)
	lie()
	h.must(h.runc, "kill", id, "KILL")
	if err := poll(10*time.Second, func() error {
		if last(ofRuntime(a.history(id), "runc")).Status.State != v1alpha1.StateStopped {
			return errors.New("its end was not told")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	told := ofRuntime(a.history(id), "runc")
	end := last(told)
	if transitions(told) != "Creating → Created → Running → Stopped" || end.Status.ExitCode == nil || *end.Status.ExitCode != 137 ||
		end.Spec.Security.Rootless || end.Spec.Name != "" {
		t.Errorf("told as %s: %+v %+v", transitions(told), end.Spec, end.Status)
	}
	for _, c := range told {
		for _, condition := range c.Status.Conditions {
			if condition.Type == v1alpha1.ConditionFactsMissing && condition.Status != metav1.ConditionFalse {
				t.Errorf("facts were doubted: %s", condition.Message)
			}
		}
	}
	t.Logf("%d lies by %d kinds of attacker: told as %s", 2*len(attackers)*2*6, len(attackers), transitions(told))
}

// ofRuntime is what was told of containers that this runtime made.
func ofRuntime(told []v1alpha1.NodeContainer, name string) (of []v1alpha1.NodeContainer) {
	for _, c := range told {
		if c.Spec.Runtime.Name == name {
			of = append(of, c)
		}
	}
	return of
}

// TestAUserWithLargeConfigsDoesNotFillTheMemory: of the largest that is read, by as many processes as there is room for.
func TestAUserWithLargeConfigsDoesNotFillTheMemory(t *testing.T) {
	const atOnce = 40
	count := machine.Volume(400, 1000)
	h := newHostileNode(t)
	a := h.startAgent("--rootless")
	bundle := filepath.Join(h.dir, "theirs", "bundle")
	config := filepath.Join(bundle, "config.json")
	content := `{"process":{"args":["` + strings.Repeat("x", 4<<20-100) + `"]}}`
	if err := errors.Join(os.Mkdir(bundle, 0o755), os.WriteFile(config, []byte(content), 0o644), os.Chown(config, anybody, anybody)); err != nil {
		t.Fatal(err)
	}
	worker := a.worker()
	h.holdInFlood("large configs of a user", func() {
		script := `seq $1 | xargs -P $2 -I% sh -c '"$0" create --bundle "$1" "$2"; test $? = 99' "$0" "$3" "$4%"`
		cmd := attackers[0].command("/bin/sh", "-c", script, h.marked, fmt.Sprint(count), fmt.Sprint(atOnce), bundle, idPrefix()+"-l")
		if out, err := bounded(limitOf(count), cmd); err != nil {
			t.Errorf("the execs: %v: %s", err, lastOf(out))
		}
	})
	a.settled(h.node)
	peak := memory(t, worker, "status", "VmHWM:")
	if peak > 256<<10 {
		t.Errorf("the agent had %d MiB resident", peak>>10)
	}
	t.Logf("%d creates with a config.json of 4 MiB, %d at once: the agent had %.1f MiB resident at most; %v were not read",
		count, atOnce, float64(peak)/1024, a.metric(`containerhook_lookup_failures_total{what="config"}`))
}

// TestAUserWhoseFilesHangDoesNotCrowdRootOut: his bundle is in a FUSE file system of his own, which does not answer.
func TestAUserWhoseFilesHangDoesNotCrowdRootOut(t *testing.T) {
	const count = 300 // more than the worker has readers
	h := newHostileNode(t)
	a := h.startAgent("--rootless")
	bundle := filepath.Join(h.dir, "theirs", "bundle")
	if err := os.Mkdir(bundle, 0o755); err != nil {
		t.Fatal(err)
	}
	pid := machine.InMounts(t)
	release := machine.Hang(t, pid, bundle)
	defer release()
	h.holdInFlood("a user's files that hang", func() {
		script := fmt.Sprintf(`i=0; pids=; bad=0
			while [ $i -lt %d ]; do setpriv --reuid=%d --regid=%d --clear-groups "$0" create --bundle "$1" "$2$i" & pids="$pids $!"
			i=$((i+1)); done
			for one in $pids; do wait $one; [ $? = 99 ] || bad=1; done
			exit $bad`, count, anybody, anybody)
		cmd := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", pid), "sh", "-c", script, h.marked, bundle, idPrefix()+"-u")
		if out, err := bounded(limitOf(count), cmd); err != nil {
			t.Errorf("the execs: %v: %s", err, lastOf(out))
		}
	})
	a.eventually("with paths that hang", func() error {
		if a.metric("containerhook_hanging_paths") == 0 {
			return errors.New("the files did not hang")
		}
		return nil
	})
	id := a.settled(h.node)
	if c := last(a.history(id)); seenBy(&c) != v1alpha1.ReasonHook {
		t.Errorf("meanwhile a container of root's was seen by %s", seenBy(&c))
	}
	t.Logf("%d creates of a user whose files hang: %v late, %v over the limit; a container of root's was seen by the hook", count,
		a.metric("containerhook_deadline_exceeded_total"), a.metric(`containerhook_exec_events_total{result="over_limit"}`))
}
