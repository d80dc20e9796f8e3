package oci

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var compareCommands = cmp.AllowUnexported(Command{})

func words(s string) []string { return strings.Fields(s) }

func TestParseCommandReadsEveryFormOfARuntime(t *testing.T) {
	longID, longBundle := strings.Repeat("a", 200), "/"+strings.Repeat("b/", 600)
	tests := map[string]struct {
		argv []string
		want Command
	}{
		"create as containerd's shim says it": {
			words("runc --root /run/containerd/runc/k8s.io --log /b/log.json --log-format json create " +
				"--bundle /b --pid-file /b/init.pid c1"),
			Command{Verb: VerbCreate, ID: "c1", Root: "/run/containerd/runc/k8s.io", Bundle: "/b"},
		},
		"create as conmon says it": {
			words("/usr/bin/crun --systemd-cgroup --root=/run/crun create --bundle /b --pid-file /p c1"),
			Command{Verb: VerbCreate, ID: "c1", Root: "/run/crun", Bundle: "/b"},
		},
		"restore as conmon says it": {
			words("runc restore --bundle /b --pid-file /p --detach --image-path /i --work-path /w --tcp-established c1"),
			Command{Verb: VerbRestore, ID: "c1", Bundle: "/b", Detach: true},
		},
		"restore with every option that has a value": {
			words("runc restore --manage-cgroups-mode soft --empty-ns network --lsm-profile apparmor:x " +
				"--lsm-mount-context y --console-socket s --image-path i --work-path w -b b c1"),
			Command{Verb: VerbRestore, ID: "c1", Bundle: "b"},
		},
		"create with every option that has a value": {
			words("runc create --preserve-fds 2 --console-socket s --pidfd-socket f --user-log l c1"),
			Command{Verb: VerbCreate, ID: "c1"},
		},
		"run":                {words("runc run c1"), Command{Verb: VerbRun, ID: "c1"}},
		"run -d":             {words("runc run -d c1"), Command{Verb: VerbRun, ID: "c1", Detach: true}},
		"run --detach=false": {words("runc run --detach=false c1"), Command{Verb: VerbRun, ID: "c1"}},
		"start": {
			words("runc --root r start c1"), Command{Verb: VerbStart, ID: "c1", Root: "r"},
		},
		"delete":                  {words("runc delete c1"), Command{Verb: VerbDelete, ID: "c1"}},
		"delete --force":          {words("runc delete --force c1"), Command{Verb: VerbDelete, ID: "c1"}},
		"delete, the option last": {words("youki delete c1 -f"), Command{Verb: VerbDelete, ID: "c1"}},
		"--bundle=X": {
			words("runc create --bundle=/b c1"), Command{Verb: VerbCreate, ID: "c1", Bundle: "/b"},
		},
		"-b X": {
			words("runc create -b /b c1"), Command{Verb: VerbCreate, ID: "c1", Bundle: "/b"},
		},
		"-b=X": {
			words("runc create -b=/b c1"), Command{Verb: VerbCreate, ID: "c1", Bundle: "/b"},
		},
		"--b X, which Go's flags accept": {
			words("runc create --b /b c1"), Command{Verb: VerbCreate, ID: "c1", Bundle: "/b"},
		},
		"one dash for long names": {
			words("runc -root /r -log=/l create -bundle /b -pid-file=/p c1"),
			Command{Verb: VerbCreate, ID: "c1", Root: "/r", Bundle: "/b"},
		},
		"getopt's attached value": {words("crun run -b/b c1"), Command{Verb: VerbRun, ID: "c1", Bundle: "/b"}},
		"getopt's bundled letters": {
			words("crun run -db ./b c1"), Command{Verb: VerbRun, ID: "c1", Bundle: "./b", Detach: true},
		},
		"getopt's bundled letters with an attached value": {
			words("crun run -db../b c1"), Command{Verb: VerbRun, ID: "c1", Bundle: "../b", Detach: true},
		},
		"getopt's attached value, a long one": {
			words("crun run -db" + longBundle + " c1"), Command{Verb: VerbRun, ID: "c1", Bundle: longBundle, Detach: true},
		},
		"more letters than any runtime has": {
			words("crun run -" + strings.Repeat("d", 99) + " c1"), Command{Verb: VerbRun, ID: "c1"},
		},
		"crun's --config": {
			words("crun run --config /c.json -b /b c1"), Command{Verb: VerbRun, ID: "c1", Config: "/c.json", Bundle: "/b"},
		},
		"crun's -f is a config file to create": {
			words("crun create -f c c1"), Command{Verb: VerbCreate, ID: "c1", Config: "c"},
		},
		"crun's -f is a switch to delete": {words("crun delete -f c1"), Command{Verb: VerbDelete, ID: "c1"}},
		"--bundle .": {
			words("runc create --bundle . c1"), Command{Verb: VerbCreate, ID: "c1", Bundle: "."},
		},
		"a relative bundle": {
			words("runc run -b ../x/./y c1"), Command{Verb: VerbRun, ID: "c1", Bundle: "../x/./y"},
		},
		"an empty bundle": {words("runc run --bundle= c1"), Command{Verb: VerbRun, ID: "c1"}},
		"an option after the ID, as runc allows": {
			words("runc create c1 --bundle /b"), Command{Verb: VerbCreate, ID: "c1", Bundle: "/b"},
		},
		"an option given twice": {
			words("runc --root /1 --root=/2 run -b 1 -b 2 c1"),
			Command{Verb: VerbRun, ID: "c1", Root: "/2", Bundle: "2"},
		},
		"-- before the ID": {
			words("runc run -b /b -- c1"), Command{Verb: VerbRun, ID: "c1", Bundle: "/b"},
		},
		"-- before an ID like an option": {
			words("runc run -- --bundle"), Command{Verb: VerbRun, ID: "--bundle"},
		},
		"-- before the command": {
			words("runc --root r -- run c1"), Command{Verb: VerbRun, ID: "c1", Root: "r"},
		},
		"a value that looks like an option": {
			words("runc run --bundle --detach c1"), Command{Verb: VerbRun, ID: "c1", Bundle: "--detach"},
		},
		"a value that is a command": {
			words("runc --root create run c1"), Command{Verb: VerbRun, ID: "c1", Root: "create"},
		},
		"an ID that is a command": {
			words("runc create delete"), Command{Verb: VerbCreate, ID: "delete"},
		},
		"--rootless with a value": {
			words("runc --rootless auto create c1"), Command{Verb: VerbCreate, ID: "c1"},
		},
		"--rootless=false": {
			words("crun --rootless=false create c1"), Command{Verb: VerbCreate, ID: "c1"},
		},
		"--rootless without one, as in runsc": {
			words("runsc --rootless create c1"), Command{Verb: VerbCreate, ID: "c1"},
		},
		"crun's --cgroup-manager": {
			words("crun --cgroup-manager systemd create c1"), Command{Verb: VerbCreate, ID: "c1"},
		},
		"youki's letters": {
			words("youki -l /l -r /r create -c s -p /p -b /b c1"),
			Command{Verb: VerbCreate, ID: "c1", Root: "/r", Bundle: "/b"},
		},
		"unknown global switches": {
			words("runsc --root=/r --strace -TESTONLY create c1"), Command{Verb: VerbCreate, ID: "c1", Root: "/r"},
		},
		"an unknown global option with a value": {
			words("runsc --platform kvm --root /r -network host create c1"),
			Command{Verb: VerbCreate, ID: "c1", Root: "/r"},
		},
		"an unknown option before the ID": {
			words("runc create --new-thing value c1"), Command{Verb: VerbCreate, ID: "c1"},
		},
		"runsc's -ref-leak-mode is no -r": {
			words("runsc -ref-leak-mode=panic create c1"), Command{Verb: VerbCreate, ID: "c1"},
		},
		"all characters of an ID": {
			words("runc run a+b.C_d-1"), Command{Verb: VerbRun, ID: "a+b.C_d-1"},
		},
		"an ID of 200 characters": {words("runc run " + longID), Command{Verb: VerbRun, ID: longID}},
		"a bundle of 1,201 bytes": {
			words("runc run -b " + longBundle + " c1"), Command{Verb: VerbRun, ID: "c1", Bundle: longBundle},
		},
		"60 global options": {
			words("runc " + strings.Repeat("--debug --log /l --log-format=json ", 20) + "--root /r run -b /b c1"),
			Command{Verb: VerbRun, ID: "c1", Root: "/r", Bundle: "/b"},
		},
		"32 KiB": {
			words("runc " + strings.Repeat("--log="+strings.Repeat("x", 1017)+" ", 32) + "run -b /b c1"),
			Command{Verb: VerbRun, ID: "c1", Bundle: "/b"},
		},
		"a name with a line break": {
			[]string{"runc", "run", "-b", "/a\nb", "c1"}, Command{Verb: VerbRun, ID: "c1", Bundle: "/a\nb"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseCommand("/usr/bin/"+test.argv[0], test.argv)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, compareCommands); diff != "" {
				t.Errorf("parseCommand(%q) (-want +got):\n%s", test.argv, diff)
			}
		})
	}
}

// What podman 4.3 and CRI-O 1.24 start, with the paths cut short.
const (
	podmanConmon = `conmon --api-version 1 -c c1 -u c1 -r /usr/bin/crun -b /b -p /b/pidfile -n web --exit-dir /e
		--full-attach -s -l k8s-file:/b/ctr.log --log-level warning --syslog --runtime-arg --log-format=json --runtime-arg
		--log --runtime-arg=/b/oci-log --conmon-pidfile /b/conmon.pid --exit-command /usr/bin/podman --exit-command-arg --root
		--exit-command-arg /var/lib/containers/storage --exit-command-arg container --exit-command-arg cleanup
		--exit-command-arg c1`
	crioConmon = `/usr/bin/conmon -b /b -c c1 --exit-dir /e -l /l --log-level info -n k8s_web_web-0_default_uid_0 -P /cp
		-p /p --persist-dir /d -r /usr/bin/runc --runtime-arg --root=/run/runc --socket-dir-path /s --syslog -u c1 -s`
)

func TestParseCommandReadsConmon(t *testing.T) {
	want := Command{Verb: VerbNamed, ID: "c1", Name: "web", Bundle: "/b", Runtime: "/usr/bin/runc"}
	with := func(change func(*Command)) Command {
		c := want
		change(&c)
		return c
	}
	tests := map[string]struct {
		argv []string
		want Command
	}{
		"podman's": {
			words(podmanConmon), with(func(c *Command) { c.Runtime = "/usr/bin/crun" }),
		},
		"CRI-O's": {
			words(crioConmon), with(func(c *Command) { c.Root, c.Name = "/run/runc", "k8s_web_web-0_default_uid_0" }),
		},
		"short": {words("conmon -c c1 -u u -n web -r /usr/bin/runc -b /b -p /p"), want},
		"long": {
			words("conmon --cid c1 --cuuid u --name web --runtime /usr/bin/runc --bundle /b --container-pidfile /p"), want,
		},
		"with =": {words("conmon --cid=c1 --name=web --runtime=/usr/bin/runc --bundle=/b --container-pidfile=/p"), want},
		"the deprecated --pidfile": {
			words("conmon --cid=c1 --name=web --runtime=/usr/bin/runc --bundle=/b --pidfile=/p"), want,
		},
		"bundled letters": {words("conmon -tsic c1 -n web -r /usr/bin/runc -b /b -p /p"), want},
		"a restore": {
			words("conmon --restore /i --runtime-opt --tcp-established -c c1 -n web -r /usr/bin/runc -b /b -p /p"), want,
		},
		"the runtime's root in two arguments": {
			words("conmon --runtime-arg --root --runtime-arg /r -c c1 -n web -r /usr/bin/runc -b /b -p /p"),
			with(func(c *Command) { c.Root = "/r" }),
		},
		"a name that is no plain one": {
			append(words("conmon -c c1 -r /usr/bin/runc -b /b -p /p -n"), "we\nb"), with(func(c *Command) { c.Name = "" }),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseCommand("/usr/bin/conmon", test.argv)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, compareCommands); diff != "" {
				t.Errorf("parseCommand(%q) (-want +got):\n%s", test.argv, diff)
			}
		})
	}
}

func TestParseCommandKnowsConmonByBinaryOrByArgv0(t *testing.T) {
	for binary, argv0 := range map[string]string{"/usr/libexec/podman/conmon": "anything", "/usr/libexec/crio/crio-conmon": "anything",
		"/nix/store/x/.conmon-wrapped": "conmon"} {
		c, err := ParseCommand(binary, []string{argv0, "-c", "c1"})
		if err != nil || c.Verb != VerbNamed {
			t.Errorf("parseCommand(%q, %q …) = %v, %v; want a name", binary, argv0, c, err)
		}
	}
	if c, err := ParseCommand("/usr/bin/runc", words("runc -c c1")); err == nil {
		t.Errorf("parseCommand of runc with conmon's options = %v; want an error", c)
	}
}

func TestParseCommandIgnoresWhatIsNoContainer(t *testing.T) {
	for _, line := range []string{
		"", "runc", "runc init", "runc state c1", "runc kill c1 9", "runc exec c1 create", "runc exec -d --process p c1",
		"runc features", "runc list", "runc events c1", "runc ps c1", "runc pause c1", "runc resume c1", "runc update c1",
		"runc spec", "runc checkpoint c1", "runc --version", "runc -v create c1", "runc --help", "crun -V", "crun -?",
		"crun --usage", "runc create", "runc create --help c1", "crun run --usage c1", "crun run -? c1", "runc run -h",
		"runc --root /r", "runc --root", "runc --", "runc - create c1", "runc --debug unknown create c1", "runc Create c1",
		"runc named c1", "crun delete --regex c.*", "crun delete -r c1", "crun delete -fr c1",
		"runsc-sandbox --root=/r --log-fd=3 boot --bundle=/b c1", "runsc-gofer --root=/r gofer --bundle /b create",
		"conmon", "conmon --version", "conmon --help", "conmon -n web -b /b", "conmon -c c1 -- -x", "conmon -- -c c1",
		"conmon -c c1 -u u -r /r -b /b -e --exec-process-spec /p", "conmon -c c1 --exec", "conmon -tic c1 --exec-attach",
		"conmon -c c1 -tie", "conmon -c c1 --exec-process-spec=/p",
	} {
		argv := words(line)
		binary := "/usr/bin/runc"
		if len(argv) > 0 {
			binary = argv[0]
		}
		c, err := ParseCommand(binary, argv)
		if line == "conmon -c c1 -- -x" { // the twin: what comes after -- changes nothing
			if err != nil {
				t.Errorf("parseCommand(%q): %v", line, err)
			}
			continue
		}
		if !errors.Is(err, errNotContainer) {
			t.Errorf("parseCommand(%q) = %+v, %v; want %v", line, c, err, errNotContainer)
		}
	}
}

func TestParseCommandRejectsInvalidIDs(t *testing.T) {
	for _, id := range []string{
		"", ".", "..", "../x", "a/b", "/a", "a b", "a\nb", "a\x00b", "ä", "a,b", "a:b", "\x1b[2J", "\xff",
		strings.Repeat("a", 1025),
	} {
		for _, argv := range [][]string{{"runc", "create", "--bundle", "/b", id}, {"conmon", "-c", id}} {
			c, err := ParseCommand(argv[0], argv)
			if !errors.Is(err, ErrBadID) || c != (Command{}) {
				t.Errorf("parseCommand(%q) = %+v, %v; want nothing and %v", argv, c, err, ErrBadID)
			}
			if err != nil && (len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\n\x1b\x00")) {
				t.Errorf("the error %q is not fit to be logged", err)
			}
		}
	}
}

func TestValidIDAcceptsWhatRuncDoes(t *testing.T) {
	for _, id := range []string{"a", "...", "-", "+", "_", "a+b.C_d-1", ".hidden", "a..b", strings.Repeat("Z", 1024)} {
		if !validID(id) {
			t.Errorf("validID(%.20q) = false", id)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, line := range []string{
		"runc --root /r --log /l --log-format json create --bundle /b --pid-file /p c1", "runc start c1", podmanConmon,
		crioConmon, "crun run -db../b c1", "youki -r /r delete c1 -f", "runsc --platform kvm run -- c1", "conmon -c c1 -e",
		"runc -b= --=x - -- run -d -- -", "runc run ..",
	} {
		f.Add(strings.Join(words(line), "\x00"))
	}
	f.Fuzz(func(t *testing.T, cmdline string) {
		argv := strings.Split(cmdline, "\x00")
		c, err := ParseCommand(argv[0], argv)
		if err != nil {
			if c != (Command{}) || errors.Is(err, ErrBadID) == errors.Is(err, errNotContainer) {
				t.Fatalf("parseCommand(%q) = %+v, %v", argv, c, err)
			}
			return
		}
		if !validID(c.ID) || strings.ContainsAny(c.ID, "/\n\x00") || c.Name != "" && !validID(c.Name) {
			t.Fatalf("parseCommand(%q) = %+v: not valid", argv, c)
		}
		if !slices.Contains([]Verb{VerbCreate, VerbRun, VerbRestore, VerbStart, VerbDelete, VerbNamed}, c.Verb) {
			t.Fatalf("parseCommand(%q) = %+v: no such verb", argv, c)
		}
		// Switches that nobody knows change nothing, wherever an option may stand first.
		more := slices.Insert(slices.Clone(argv), 1, "--unheard-of", "--unheard-of=1", "-unheard")
		if again, err := ParseCommand(more[0], more); err != nil || again != c {
			t.Fatalf("parseCommand(%q) = %+v, %v; want %+v", more, again, err, c)
		}
	})
}
