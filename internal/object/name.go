package object

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerhook/containerhook/internal/event"
)

// A name is at most 200 + 1 + 12 + 1 + 10 characters: a DNS-1123 subdomain may have 253.
const (
	nameNodeChars = 200
	nameIDChars   = 12
	nameHashChars = 10 // 50 bits: the names of a node collide once in some 10 million instances
)

// Name returns the name of the NodeContainer of one instance of a container: the same each time that it is asked, also
// after a restart of the agent, and another one for another instance, runtime root or boot.
func Name(node, bootID string, key event.Key) string {
	node = strings.TrimRight(node[:min(len(node), nameNodeChars)], ".-")
	var input strings.Builder
	for _, s := range []string{key.Root, key.ID, bootID, strconv.FormatUint(key.StartTicks, 10)} {
		fmt.Fprintf(&input, "%d:%s", len(s), s) // with its length, so that no two inputs read the same
	}
	sum := sha256.Sum256([]byte(input.String()))
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))
	return node + "-" + strings.Map(dnsRune, key.ID[:min(len(key.ID), nameIDChars)]) + "-" + hash[:nameHashChars]
}

func dnsRune(r rune) rune {
	switch {
	case 'A' <= r && r <= 'Z':
		return r - 'A' + 'a'
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return r
	}
	return '-'
}
