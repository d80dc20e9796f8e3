// Package docs holds what the documentation promises.
package docs

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTroubleshootingHasEveryMessage(t *testing.T) {
	page, err := os.ReadFile("troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	verbs := regexp.MustCompile(`"?%[-+.0-9]*[a-z]"?`)
	for _, message := range messages(t) {
		if slices.Contains(untold, message) {
			continue
		}
		for _, part := range verbs.Split(message, -1) {
			if !strings.Contains(string(page), strings.Trim(part, " :")) {
				t.Errorf("troubleshooting.md lacks %q of %q", part, message)
			}
		}
	}
}

// The twin: a message of each kind is found, or the test above could not fail.
func TestMessagesAreFound(t *testing.T) {
	for _, message := range append([]string{"Worker crashed: what waited for it was allowed",
		"unexpected argument %q", "the runtime's state could not be read at start", "open a fanotify group: %w"}, untold...) {
		if !slices.Contains(messages(t), message) {
			t.Errorf("%q was not found", message)
		}
	}
}

func TestEveryTestThatIsNamedExists(t *testing.T) {
	var tests []byte
	for _, dir := range []string{"../cmd", "../internal", "../test"} {
		walk(t, dir, "_test.go", func(path string) {
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tests = append(tests, source...)
		})
	}
	named := 0
	walk(t, ".", ".md", func(path string) {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(string(page), -1) {
			named++
			if !bytes.Contains(tests, []byte("func "+name+"(")) {
				t.Errorf("%s names %s, which does not exist", path, name)
			}
		}
	})
	if named == 0 {
		t.Error("no page names a test")
	}
}

func TestArchitectureNamesEveryPackage(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	var named, there []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(internal/[\\w/]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		named = append(named, row[1])
	}
	walk(t, "../internal", ".go", func(path string) {
		name := strings.TrimPrefix(filepath.Dir(path), "../")
		isForTests := strings.HasSuffix(path, "_test.go") || strings.HasSuffix(name, "test") || name == "internal/golden"
		if !isForTests && !slices.Contains(there, name) {
			there = append(there, name)
		}
	})
	slices.Sort(named)
	slices.Sort(there)
	if diff := cmp.Diff(there, named); diff != "" {
		t.Errorf("packages that are there (-) and named (+):\n%s", diff)
	}
}

// untold are the errors of the hook that nobody reads: they decide something, and are counted at most.
var untold = []string{
	// Of argv, who and inits: a lookup failure is counted.
	"the arguments are too long", "load the argv program: %w", "open the task's memory: %w", "read argv[%d]'s pointer: %w",
	"read argv[%d]: %w", "the task is gone", "no such event waits", "look at pid %d: %w", "follow pid %d: %w",
	"follow the memory cgroup of pid %d: %w", "ask whose user namespace pid %d is in: %w",
	// Of command: it is no container.
	"not a container command", "container ID not valid", "%w: %.80q",
	// Of the listing: what cannot be read is counted, and what can be is reported.
	"stat root: %w", "too many entries", "list containers: %w", "match %q: %w", "no init process recorded",
	"a user's state names a process that is not that user's, or rootless ones are not asked for",
	// Of gate: a listing is made.
	"the kernel's event queue overflowed",
	// Of New: cmd has checked the flags.
	"containerhook: HostRoot must be absolute, Session and Metrics must be set", "containerhook: ListEvery must be positive",
}

// messages are what the agent says by itself: its log lines, the errors that cmd and the hook make, and what the hook has
// objects say.
func messages(t *testing.T) (found []string) {
	for _, dir := range []string{"../cmd", "../internal", "../internal/containerhook"} {
		wanted := []string{"Info", "Error"} // of logr
		if dir != "../internal" {
			wanted = append(wanted, "New", "Errorf")
		}
		walk(t, dir, ".go", func(path string) {
			if strings.HasSuffix(path, "_test.go") {
				return
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					found = append(found, literals(n, wanted)...)
				case *ast.AssignStmt:
					found = append(found, problems(n)...)
				}
				return true
			})
		})
	}
	return found
}

// problems returns what is assigned to a Problem.
func problems(assigned *ast.AssignStmt) []string {
	to, ok := assigned.Lhs[0].(*ast.SelectorExpr)
	if !ok || to.Sel.Name != "Problem" {
		return nil
	}
	return firstString(assigned.Rhs)
}

// literals returns the first string among the arguments of a call of one of the methods or functions wanted.
func literals(call *ast.CallExpr, wanted []string) []string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(wanted, selector.Sel.Name) {
		return nil
	}
	return firstString(call.Args)
}

func firstString(of []ast.Expr) []string {
	for _, arg := range of {
		if text, ok := arg.(*ast.BasicLit); ok && text.Kind == token.STRING {
			if s, err := strconv.Unquote(text.Value); err == nil {
				return []string{s}
			}
		}
	}
	return nil
}

// walk calls visit with every file below dir whose name ends with suffix.
func walk(t *testing.T, dir, suffix string, visit func(path string)) {
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, suffix) {
			visit(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
