package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
)

func TestParseConfigReadsRealFiles(t *testing.T) {
	for _, name := range []string{"runc-1.1.5.json", "crun-1.8.1.json"} {
		raw, err := os.ReadFile("testdata/config/" + name)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := ParseConfig(raw, "runc")
		if err != nil {
			t.Fatal(err)
		}
		if spec.Process == nil || len(spec.Process.Args) != 1 || spec.Process.Args[0] != "sh" || spec.Linux == nil {
			t.Errorf("%s: %+v is not the default spec", name, spec)
		}
	}
}

func TestParseConfigIsStrictAboutNothingButJSON(t *testing.T) {
	for name, raw := range map[string]string{
		"empty object":       `{}`,
		"unknown names":      `{"process":{"args":["sh"],"new":[1,{}]},"newer":null}`,
		"text behind it":     `{"process":{"args":["sh"]}} trailing`,
		"nulls":              `{"process":null,"linux":null,"mounts":null}`,
		"not UTF-8":          "{\"hostname\":\"\xff\"}",
		"a name given twice": `{"hostname":"a","hostname":"b"}`,
	} {
		if spec, err := ParseConfig([]byte(raw), "runc"); err != nil || spec == nil {
			t.Errorf("%s: %v, %v", name, spec, err)
		}
	}
	spec, err := ParseConfig([]byte(`{"hostname":"h","process":{"args":"sh","cwd":"/"}}`), "runc")
	if err == nil || spec == nil || spec.Hostname != "h" || spec.Process.Cwd != "/" {
		t.Errorf("a value of another type: %+v, %v; want the rest, and an error", spec, err)
	}
}

// TestCommasInStringsAreNoValues: else a pod's author blinds the inventory to his own container.
func TestCommasInStringsAreNoValues(t *testing.T) {
	text := strings.Repeat(",", maxValues+1)
	spec, err := ParseConfig([]byte(`{"process":{"env":["A=\\\"`+text+`"]},"annotations":{"`+text+`":"x,\\"}}`), "runc")
	if err != nil || len(spec.Process.Env) != 1 || spec.Annotations[text] != `x,\` {
		t.Errorf("%v", err)
	}
}

// TestParseConfigReadsAsTheRuntimeDoes: each case is what a container's author writes for one runtime to read otherwise.
func TestParseConfigReadsAsTheRuntimeDoes(t *testing.T) {
	const (
		twice    = `{"process":{"capabilities":{"bounding":["CAP_SYS_ADMIN"]}},"process":{"capabilities":{"bounding":["CAP_CHOWN"]}}}`
		upper    = `{"process":{"capabilities":{"bounding":["CAP_SYS_ADMIN"]}},"PROCESS":{"capabilities":{"bounding":["CAP_CHOWN"]}}}`
		comments = "/* by hand */ {\"process\": // first\n {\"cwd\":\"/*\\\"//\",\"capabilities\":{\"bounding\":[\"CAP_CHOWN\"]}}} // end"
		spelling = `{"process":{"capabilities":{"bounding":["cap_sys_admin"]}}}`
		noRules  = `{"linux":{}}`
		denied   = `{"linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}}`
	)
	for _, c := range []struct {
		runtime, raw string
		err          error
		capability   string
		rules        int
	}{
		{runtime: "runc", raw: twice, capability: "CAP_CHOWN"},
		{runtime: "crun", raw: twice, err: errNamesTwice},
		{runtime: "youki", raw: twice, err: errNamesTwice},
		{runtime: "runc", raw: upper, capability: "CAP_CHOWN"},
		{runtime: "crun", raw: upper, capability: "CAP_SYS_ADMIN"},
		{runtime: "youki", raw: upper, capability: "CAP_SYS_ADMIN"},
		{runtime: "runc", raw: comments, err: ErrNotJSON},
		{runtime: "crun", raw: comments, capability: "CAP_CHOWN"},
		{runtime: "youki", raw: comments, err: ErrNotJSON},
		{runtime: "runc", raw: spelling, capability: "cap_sys_admin"},
		{runtime: "crio-crun", raw: spelling, capability: "CAP_SYS_ADMIN"},
		{runtime: "runc", raw: noRules},
		{runtime: "crun", raw: noRules, rules: 1},
		{runtime: "crun", raw: denied, rules: 1},
		{runtime: "crun", raw: `{"process":{"cwd":1}}`, err: errOtherType},
		{runtime: "crun", raw: `{} trailing`, err: ErrNotJSON},
		{runtime: "crun", raw: `{ /* without end`, err: ErrNotJSON},
	} {
		spec, err := ParseConfig([]byte(c.raw), c.runtime)
		capability, rules, all := "", 0, false
		if spec != nil && spec.Process != nil && spec.Process.Capabilities != nil {
			capability = spec.Process.Capabilities.Bounding[0]
		}
		if spec != nil && spec.Linux != nil && spec.Linux.Resources != nil {
			rules, all = len(spec.Linux.Resources.Devices), spec.Linux.Resources.Devices[0].Allow
		}
		if !errors.Is(err, c.err) || capability != c.capability || rules != c.rules || all != (c.raw == noRules && rules > 0) {
			t.Errorf("%s reads %s as %q, %d rules (allow %t), %v", c.runtime, c.raw, capability, rules, all, err)
		}
	}
}

func TestParseConfigRejectsWhatIsNoConfig(t *testing.T) {
	secret := "root:$6$salt$hash:19000:0:99999:7:::"
	for name, test := range map[string]struct {
		raw string
		err error
	}{
		"nothing":          {"", ErrNotJSON},
		"a secret":         {secret, ErrNotJSON},
		"cut off":          {`{"hostname":"` + secret, ErrNotJSON},
		"NUL":              {"{\"hostname\":\"\x00\"}", ErrNotJSON},
		"depth bomb":       {strings.Repeat("[", 1<<20), ErrNotJSON},
		"closed depth":     {`{"x":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + "}", ErrNotJSON},
		"depth of objects": {strings.Repeat(`{"linux":`, 10_001), ErrNotJSON},
		"100 MB":           {strings.Repeat(" ", 100<<20), hostfs.ErrTooLarge},
		"many mounts":      {`{"mounts":[{}` + strings.Repeat(",{}", maxValues+1) + `]}`, hostfs.ErrTooLarge},
	} {
		spec, err := ParseConfig([]byte(test.raw), "runc")
		if spec != nil || !errors.Is(err, test.err) {
			t.Errorf("%s: %+v, %v; want %v", name, spec, err, test.err)
		}
	}
	for _, raw := range []string{secret, `["` + secret + `"]`, `{"hostname":4711}`, `{"hostname":"` + secret + `"`} {
		if _, err := ParseConfig([]byte(raw), "runc"); err == nil || strings.ContainsAny(err.Error(), "$47") {
			t.Errorf("the error %v quotes %q", err, raw)
		}
	}
}

func addFiles(f *testing.F, pattern string) {
	f.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds in %q: %v", pattern, err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
}

func FuzzParseConfig(f *testing.F) {
	addFiles(f, "testdata/config/*.json")
	for _, raw := range []string{"", "{}", "[]", `{"process":{"args":1}}`, `{"mounts":[{}]} x`, strings.Repeat("[", 99)} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, runtime := range []string{"runc", "crun", "youki"} {
			if spec, err := ParseConfig(raw, runtime); spec == nil && err == nil || spec != nil && errors.Is(err, ErrNotJSON) {
				t.Fatalf("%s: parseConfig = %v, %v", runtime, spec, err)
			}
		}
	})
}
