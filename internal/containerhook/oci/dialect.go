package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	kjson "sigs.k8s.io/json"
)

var (
	errNamesTwice = errors.New("an object has a name twice, and the runtime may take either")
	errOtherType  = errors.New("value of an unexpected type")
)

// dialect is how a runtime reads config.json, where runtimes differ: a container's author may write what one of them reads
// otherwise than another.
type dialect uint8

const (
	// dialectGo is runc's, and of all that Go's encoding/json reads for: of a name that stands twice the last one, in whatever
	// case.
	dialectGo dialect = iota
	// dialectExact is of whoever takes names as they are, and of two it is not known which.
	dialectExact
	// dialectCrun is crun's (yajl): exact, the first of two, with comments; capabilities in any case; without a rule for
	// devices, all devices.
	dialectCrun
)

// dialectOf is that of a runtime's binary.
func dialectOf(name string) dialect {
	switch {
	case strings.Contains(name, "crun") || name == "krun":
		return dialectCrun
	case strings.Contains(name, "runc"), name == "runsc", name == "kata-runtime":
		return dialectGo
	}
	return dialectExact
}

// decode reads raw into spec. Where a value is of another type the rest is there with the error.
func (d dialect) decode(raw []byte, spec *specs.Spec) error {
	if d == dialectGo {
		return json.NewDecoder(bytes.NewReader(raw)).Decode(spec) // what follows the value is ignored
	}
	if d == dialectCrun {
		raw = withoutComments(raw)
	}
	twice, err := kjson.UnmarshalStrict(raw, spec, kjson.DisallowDuplicateFields)
	switch isSyntax, offset := kjson.SyntaxErrorOffset(err); {
	case isSyntax:
		return fmt.Errorf("%w at byte %d", ErrNotJSON, offset)
	case err != nil:
		return errOtherType
	case len(twice) > 0:
		return errNamesTwice
	}
	return nil
}

// apply makes spec say what the runtime makes of it.
func (d dialect) apply(spec *specs.Spec) {
	if d != dialectCrun {
		return
	}
	if spec.Process != nil && spec.Process.Capabilities != nil {
		c := spec.Process.Capabilities
		for _, names := range [][]string{c.Bounding, c.Effective, c.Inheritable, c.Permitted, c.Ambient} {
			for i := range names {
				names[i] = strings.ToUpper(names[i]) // libcap's cap_from_name
			}
		}
	}
	if spec.Linux == nil {
		return
	}
	if spec.Linux.Resources == nil {
		spec.Linux.Resources = &specs.LinuxResources{}
	}
	if r := spec.Linux.Resources; len(r.Devices) == 0 {
		r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
}

// withoutComments has spaces where JSON has comments, as yajl allows them: /* … */, and // to the end of a line.
func withoutComments(raw []byte) []byte {
	if !bytes.Contains(raw, []byte("/*")) && !bytes.Contains(raw, []byte("//")) {
		return raw
	}
	clean := bytes.Clone(raw)
	for i, inString := 0, false; i < len(clean); i++ {
		switch rest := clean[i:]; {
		case inString && rest[0] == '\\':
			i++
		case rest[0] == '"':
			inString = !inString
		case inString:
		case bytes.HasPrefix(rest, []byte("/*")), bytes.HasPrefix(rest, []byte("//")):
			end, after := []byte("\n"), 0
			if rest[1] == '*' {
				end, after = []byte("*/"), 2
			}
			length := bytes.Index(rest[2:], end)
			if length < 0 { // to the end of the file, which is an error for one that begins with /*
				length, after = len(rest)-2, 0
			}
			for j := range rest[:2+length+after] {
				rest[j] = ' '
			}
			i += 1 + length + after
		}
	}
	return clean
}
