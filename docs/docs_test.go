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
		for _, part := range verbs.Split(message, -1) {
			if !strings.Contains(string(page), strings.Trim(part, " :")) {
				t.Errorf("troubleshooting.md lacks %q of %q", part, message)
			}
		}
	}
}

// The twin: a message of each kind is found, or the test above could not fail.
func TestMessagesAreFound(t *testing.T) {
	for _, message := range []string{"Worker crashed: whatever it held was allowed by the kernel", "unexpected argument %q"} {
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

func TestArchitectureNamesEveryFileOfTheHook(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(\\w+\\.go)` \\|").FindAllStringSubmatch(string(page), -1)
	var named, there []string
	for _, row := range rows {
		named = append(named, row[1])
	}
	walk(t, "../internal/containerhook", ".go", func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			there = append(there, filepath.Base(path))
		}
	})
	slices.Sort(named)
	slices.Sort(there)
	if diff := cmp.Diff(there, named); diff != "" {
		t.Errorf("files that are there (-) and named (+):\n%s", diff)
	}
}

// messages are what the agent says by itself: its log lines, and the errors that cmd makes.
func messages(t *testing.T) (found []string) {
	for _, dir := range []string{"../cmd", "../internal"} {
		wanted := []string{"Info", "Error"} // of logr
		if dir == "../cmd" {
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
				if call, ok := n.(*ast.CallExpr); ok {
					found = append(found, literals(call, wanted)...)
				}
				return true
			})
		})
	}
	return found
}

// literals returns the first string among the arguments of a call of one of the methods or functions wanted.
func literals(call *ast.CallExpr, wanted []string) []string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(wanted, selector.Sel.Name) {
		return nil
	}
	for _, arg := range call.Args {
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
