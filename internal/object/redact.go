package object

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// What never leaves the node: the environment, arguments past the first, mount options but for read-only and
// propagation, arguments and environment of hooks, annotations that nobody asked for. An object is built of what is
// published, field by field: nothing is copied whole and then redacted.

// The bounds of the API (MaxLength and MaxItems of v1alpha1). What is over them would be refused whole.
const (
	MaxPath = 1024 // of any path
	MaxText = 256  // of what is written for people

	maxID          = 1024
	maxImage       = 512
	maxName        = 253 // of a DNS subdomain
	maxDigest      = 128
	maxLabel       = 63 // of a DNS label
	maxWord        = 64
	maxType        = 32
	maxMounts      = 64
	maxDevices     = 32
	maxHooks       = 16
	maxGIDs        = 32
	maxCaps        = 64
	maxAnnotations = 16

	// maxSpecBytes leaves a quarter of an object's 16 KiB to its metadata and status.
	maxSpecBytes = 12 << 10
)

// cutter bounds what goes into a spec, and remembers the fields in which it had to change something.
type cutter struct{ fields []string }

func (c *cutter) cut(field string) {
	if !slices.Contains(c.fields, field) {
		c.fields = append(c.fields, field)
	}
}

// text returns s, fit to be stored and printed: see Clean.
func (c *cutter) text(field, s string, limit int) string {
	cleaned := Clean(s, limit)
	if cleaned != s {
		c.cut(field)
	}
	return cleaned
}

// capped returns the first limit elements of list.
func capped[T any](c *cutter, field string, list []T, limit int) []T {
	if len(list) <= limit {
		return list
	}
	c.cut(field)
	return slices.Clone(list[:limit])
}

// Clean returns at most limit bytes of s, as valid UTF-8 that can be printed: whatever else is in it (NUL, newline,
// ESC, a change of writing direction) becomes U+FFFD. The result does not keep s in memory.
func Clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, prefix(s, limit))
	return strings.Clone(prefix(s, limit)) // once more: U+FFFD is longer than what it stands for
}

// prefix returns at most limit bytes of s, and splits no character.
func prefix(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// fit clears fields of spec, the least telling first, until it is small enough. Only a config.json made for it comes
// this far.
func (c *cutter) fit(spec *v1alpha1.NodeContainerSpec) {
	for _, drop := range []struct {
		field string
		clear func()
	}{
		{"annotations", func() { spec.Annotations = nil }},
		{"devices", func() { spec.Devices = nil }},
		{"hooks", func() { spec.Hooks = nil }},
		{"mounts", func() { spec.Mounts = nil }},
		{"bundle", func() { spec.Bundle = "" }},
		{"cgroupsPath", func() { spec.CgroupsPath = "" }},
		{"runtime.path", func() { spec.Runtime.Path = "" }},
		{"entrypoint", func() { spec.Entrypoint = "" }},
		{"image.name", func() { spec.Image.Name = "" }},
	} {
		before := size(spec)
		if before <= maxSpecBytes {
			return
		}
		if drop.clear(); size(spec) < before {
			c.cut(drop.field)
		}
	}
}

// size returns how many bytes spec has as JSON.
func size(spec *v1alpha1.NodeContainerSpec) int {
	encoded, _ := json.Marshal(spec) // strings, numbers and lists of them: it cannot fail
	return len(encoded)
}
