package oci

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
)

const (
	// MaxConfig bounds config.json. Those of Kubernetes have 10 to 50 KB; environments and mounts can make them grow.
	MaxConfig = 4 << 20
	// maxValues bounds how many values a config.json may list. 4 MiB of "{}," as mounts would be 170 MB in memory.
	maxValues = 100_000
)

// ErrNotJSON is that a file is not JSON at all.
var ErrNotJSON = errors.New("not valid JSON")

// ParseConfig reads a config.json as that runtime does: one JSON value, unknown names ignored. Where a value is not of the type
// that the runtime-spec wants, the rest of spec is there with the error. No error quotes the content.
func ParseConfig(raw []byte, runtime string) (*specs.Spec, error) {
	if len(raw) > MaxConfig || countValues(raw) > maxValues {
		return nil, fmt.Errorf("parse config.json: %w", hostfs.ErrTooLarge)
	}
	spec, d := new(specs.Spec), dialectOf(runtime)
	err := d.decode(raw, spec) // its depth is bounded: 10,000
	if err != nil {
		err = fmt.Errorf("parse config.json: %w", jsonError(err))
	}
	if errors.Is(err, ErrNotJSON) || errors.Is(err, errNamesTwice) {
		return nil, err
	}
	d.apply(spec)
	return spec, err
}

// countValues is how many values JSON lists, as its commas say. Those in strings list nothing: a pod's author may write as
// many as he likes into an environment variable or an annotation.
func countValues(raw []byte) (n int) {
	for inString, i := false, 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case c == ',' && !inString:
			n++
		}
	}
	return n
}

// jsonError is encoding/json's error less what it quotes of the input.
func jsonError(err error) error {
	var (
		syntax    *json.SyntaxError
		otherType *json.UnmarshalTypeError
	)
	switch {
	case errors.Is(err, ErrNotJSON), errors.Is(err, errNamesTwice), errors.Is(err, errOtherType):
		return err
	case errors.As(err, &syntax):
		return fmt.Errorf("%w at byte %d", ErrNotJSON, syntax.Offset)
	case errors.As(err, &otherType):
		return fmt.Errorf("value of an unexpected type at byte %d", otherType.Offset)
	default: // it ends too early
		return ErrNotJSON
	}
}
