package object

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/event/eventtest"
)

var testKey = event.Key{Root: "/run/runc", ID: "6d9356deff5dca694b6b727de03dbe78", StartTicks: 123456}

// The hash was computed by hand: sha256 of "9:/run/runc32:6d93…36:8f6c…6:123456", base32.
// A name is an identity that outlives the agent: if this changes, every object on every node is made a second time.
func TestNameIsTheSameForEver(t *testing.T) {
	const want = "node-1-6d9356deff5d-3uryqxuv7a"
	if got := Name("node-1", eventtest.BootID, testKey); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNameIsValidWhateverItIsMadeOf(t *testing.T) {
	for _, node := range []string{"n", "ip-10-0-0-1.eu-central-1.compute.internal", strings.Repeat("a", 253),
		strings.Repeat("a", 199) + ".b", strings.Repeat("a", 198) + "-.b"} {
		for _, id := range []string{"x", "a+b.C_d-1", "___", "-._+", "UPPER", strings.Repeat("9", 1024), ""} {
			name := Name(node, eventtest.BootID, event.Key{ID: id})
			if errs := validation.IsDNS1123Subdomain(name); errs != nil {
				t.Errorf("Name(%q, %q) = %q: %v", node, id, name, errs)
			}
			if len(name) > 224 {
				t.Errorf("Name(%q, %q) has %d characters", node, id, len(name))
			}
		}
	}
}

func TestNameIsAnotherOneForAnotherInstance(t *testing.T) {
	seen := map[string]string{}
	for _, tc := range []struct {
		what   string
		bootID string
		key    event.Key
	}{
		{"the first", eventtest.BootID, testKey},
		{"made again", eventtest.BootID, event.Key{Root: testKey.Root, ID: testKey.ID, StartTicks: testKey.StartTicks + 1}},
		{"another runtime's", eventtest.BootID, event.Key{Root: "/run/crun", ID: testKey.ID, StartTicks: testKey.StartTicks}},
		{"after a reboot", "another-boot", testKey},
		{"the same first 12 characters", eventtest.BootID, event.Key{Root: testKey.Root, ID: testKey.ID[:12], StartTicks: testKey.StartTicks}},
		{"the same characters, divided elsewhere", eventtest.BootID, event.Key{Root: testKey.Root + testKey.ID[:12], ID: testKey.ID[12:], StartTicks: testKey.StartTicks}},
	} {
		name := Name("node-1", tc.bootID, tc.key)
		hash := name[strings.LastIndex(name, "-"):]
		if other, ok := seen[hash]; ok {
			t.Errorf("%s and %s have the same hash %q", tc.what, other, hash)
		}
		seen[hash] = tc.what
	}
}
