// Package oci knows what runtimes know: their command lines and conmon's, config.json as each reads it, and the state that they
// keep on disk. It reads files, through hostfs, and asks nothing of the kernel.
package oci

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Verb is what a runtime was asked to do with a container, or that conmon was given one.
type Verb string

const (
	VerbCreate  Verb = "create"
	VerbRun     Verb = "run"
	VerbRestore Verb = "restore"
	VerbStart   Verb = "start"
	VerbDelete  Verb = "delete"
	VerbNamed   Verb = "named" // conmon, which knows the container's name and then starts the runtime
)

// Command is what an argv says, nothing looked up: paths are as they were given, relative ones to the caller's cwd.
// Only id and name are safe to print; a path may hold any byte but NUL.
type Command struct {
	Verb    Verb
	ID      string // passed validID
	Root    string // --root; empty for the runtime's default
	Bundle  string // --bundle; empty for the cwd
	Config  string // crun's --config; empty for config.json in the bundle
	Detach  bool   // --detach: the runtime does not wait for the container
	Name    string // conmon's --name, where it is a plain one
	Runtime string // conmon's --runtime: the binary that it is about to start
}

// Why an argv is no command.
var (
	errNotContainer = errors.New("not a container command")
	ErrBadID        = errors.New("container ID not valid")
)

// The options of runc, crun, youki, runsc and kata-runtime 1 together: none of them means two things. An option that is
// missing here is taken for a switch, but see parseGlobals. --rootless is missing on purpose: it has a value in runc
// and crun and none in runsc.
var (
	globalOptions = optionsOf(`root/r= log/l= log-format= log-level= criu= systemd-cgroup/s debug
		version/v/V help/h/? usage`)
	createOptions = optionsOf(`bundle/b= config/f= pid-file/p= console-socket/c= pidfd-socket= preserve-fds= user-log=
		image-path= work-path= manage-cgroups-mode= empty-ns= lsm-profile= lsm-mount-context= detach/d help/h/? usage`)
	verbOptions = map[Verb]options{
		VerbCreate:  createOptions,
		VerbRun:     createOptions,
		VerbRestore: createOptions,
		VerbStart:   optionsOf("help/h/? usage"),
		VerbDelete:  optionsOf("force/f regex/r help/h/? usage"),
	}
	conmonOptions = optionsOf(`cid/c= cuuid/u= name/n= runtime/r= bundle/b= container-pidfile/pidfile/p=
		conmon-pidfile/P= runtime-arg= runtime-opt= restore= restore-arg= persist-dir/0= api-version= timeout/T=
		exit-command= exit-command-arg= exit-delay= exit-dir= log-path/l= log-level= log-tag= log-size-max=
		log-global-size-max= sdnotify-socket= socket-dir-path= seccomp-notify-socket= seccomp-notify-plugins=
		exec/e exec-attach exec-process-spec= terminal/t stdin/i systemd-cgroup/s version help/h/?`)
)

// otherCommands are the runtimes' commands that are none of ours.
var otherCommands = strings.Fields(`boot checkpoint debug do events exec features gofer info init kill list mounts pause
	ps resume spec state update wait`)

// ParseCommand says what argv asks a container runtime or conmon to do. binary is the path of what is executed, for
// argv[0] is the caller's choice. The error is errNotContainer, or wraps ErrBadID.
func ParseCommand(binary string, argv []string) (Command, error) {
	if len(argv) == 0 {
		return Command{}, errNotContainer
	}
	parse := parseRuntime
	if IsConmon(binary) || IsConmon(argv[0]) {
		parse = parseConmon
	}
	c, ok := parse(argv[1:])
	if !ok {
		return Command{}, errNotContainer
	}
	if !validID(c.ID) {
		return Command{}, fmt.Errorf("%w: %.80q", ErrBadID, c.ID)
	}
	return c.clone(), nil
}

// IsConmon says whether a path or a process's name is conmon's: CRI-O brings it as crio-conmon.
func IsConmon(name string) bool {
	base := path.Base(name)
	return base == "conmon" || base == "crio-conmon"
}

func parseRuntime(words []string) (c Command, ok bool) {
	globals, words := parseGlobals(words)
	if len(words) == 0 || globals.has("help", "usage", "version") {
		return c, false
	}
	c.Verb = Verb(words[0])
	known, ok := verbOptions[c.Verb]
	if !ok {
		return c, false
	}
	local, operands := known.scan(words[1:])
	// crun's delete --regex names a pattern, not a container.
	if len(operands) == 0 || local.has("help", "usage", "regex") {
		return c, false
	}
	// Each runtime takes one operand, and runc and youki take options after it too. More than one are the values of
	// options that are not known here, and every caller puts the ID last.
	c.ID = operands[len(operands)-1]
	c.Root, c.Bundle, c.Config = globals.last("root"), local.last("bundle"), local.last("config")
	c.Detach, _ = strconv.ParseBool(local.last("detach"))
	return c, true
}

// parseGlobals reads the options before the command and returns the rest, which begins with the command. An option that
// is not known (runsc alone has a hundred) is a switch where a command follows, else the next word is its value.
func parseGlobals(words []string) (given, []string) {
	globals := given{}
	for len(words) > 0 && isOption(words[0]) {
		if words[0] == "--" {
			return globals, words[1:]
		}
		word, known := words[0], false
		words, known = globalOptions.take(word[1:], words[1:], globals)
		if known || strings.Contains(word, "=") {
			continue
		}
		if len(words) > 0 && !isOption(words[0]) && !isCommand(words[0]) {
			words = words[1:]
		}
	}
	return globals, words
}

func parseConmon(words []string) (c Command, ok bool) {
	own, _ := conmonOptions.scan(words)
	if !own.has("cid") || own.has("exec", "exec-attach", "exec-process-spec", "help", "version") {
		return c, false
	}
	toRuntime, _ := globalOptions.scan(own["runtime-arg"])
	c.Verb, c.ID = VerbNamed, own.last("cid")
	c.Root, c.Bundle = toRuntime.last("root"), own.last("bundle")
	c.Runtime = own.last("runtime")
	if name := own.last("name"); validID(name) { // as those of podman and CRI-O are
		c.Name = name
	}
	return c, true
}

func isCommand(word string) bool {
	return verbOptions[Verb(word)] != nil || slices.Contains(otherCommands, word)
}

// clone frees c from the buffer that the whole argv may have been read into.
func (c Command) clone() Command {
	for _, s := range []*string{&c.ID, &c.Root, &c.Bundle, &c.Config, &c.Name, &c.Runtime} {
		*s = strings.Clone(*s)
	}
	c.Verb = Verb(strings.Clone(string(c.Verb)))
	return c
}

// validID is runc's validateID (libcontainer/factory_linux.go), with the limit that runc had until 1.0: an ID is one
// name in a directory.
func validID(id string) bool {
	if id == "" || id == "." || id == ".." || len(id) > 1024 {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.") == ""
}

// maxBundled bounds how many letters share a dash: more than any runtime has, for each costs a look at the whole word.
const maxBundled = 16

// options are what a command line may hold, under each of their names, without dashes.
type options map[string]option

type option struct {
	name     string // the first of its names
	hasValue bool
}

// optionsOf reads a list such as "bundle/b= detach/d": the names of an option, and = where it takes a value.
func optionsOf(fields string) options {
	o := options{}
	for _, field := range strings.Fields(fields) {
		list, hasValue := strings.CutSuffix(field, "=")
		names := strings.Split(list, "/")
		for _, name := range names {
			o[name] = option{names[0], hasValue}
		}
	}
	return o
}

// given holds the values of the options that were given, in order; that of a switch is "true", or what it was set to.
type given map[string][]string

func (g given) has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return len(g[name]) > 0 })
}

// last is what counts for every parser here when an option is given twice.
func (g given) last(name string) string {
	if n := len(g[name]); n > 0 {
		return g[name][n-1]
	}
	return ""
}

func (g given) add(o option, value string) { g[o.name] = append(g[o.name], value) }

func isOption(word string) bool { return len(word) > 1 && word[0] == '-' }

// scan reads words as options and operands.
func (o options) scan(words []string) (g given, operands []string) {
	g = given{}
	for len(words) > 0 {
		switch word := words[0]; {
		case word == "--":
			return g, append(operands, words[1:]...)
		case isOption(word):
			words, _ = o.take(word[1:], words[1:], g)
		default:
			operands, words = append(operands, word), words[1:]
		}
	}
	return g, operands
}

// take puts the option that word is, less its first dash, into g. It says whether the option is known, and returns next
// less the option's value, if that was there. It reads --name value, --name=value and -name as Go's flags do (runc),
// and -db value and -b/value as getopt does (crun); what is attached must look like a path, for Go's -xyz is one name.
func (o options) take(word string, next []string, g given) (rest []string, known bool) {
	name, value, assigned := strings.Cut(strings.TrimPrefix(word, "-"), "=")
	if opt, ok := o[name]; ok {
		switch {
		case assigned:
		case !opt.hasValue:
			value = "true"
		case len(next) > 0:
			value, next = next[0], next[1:]
		}
		g.add(opt, value)
		return next, true
	}
	if word[0] == '-' || len(word) > maxBundled && !strings.ContainsAny(word[:maxBundled], "/.") {
		return next, false
	}
	letter, ok := o[word[:1]]
	switch attached := word[1:]; {
	case !ok || attached == "":
		return next, false
	case !letter.hasValue:
		if next, known = o.take(attached, next, g); known {
			g.add(letter, "true")
		}
		return next, known
	case attached[0] == '/' || attached[0] == '.':
		g.add(letter, attached)
		return next, true
	}
	return next, false
}
