package machine

import "os"

// Volume returns how often a test repeats what it does: short in `make test`, long in `make test-long`, which sets
// TEST_LONG=1. Both prove the same behavior; a name must not promise the long count.
func Volume(short, long int) int {
	if Long() {
		return long
	}
	return short
}

// Long reports whether this is a run of `make test-long`.
func Long() bool { return os.Getenv("TEST_LONG") == "1" }
