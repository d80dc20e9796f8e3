package main

import (
	"fmt"
	"net"
	"testing"
)

// admitted opens a connection of source.
func (l *crowdedListener) admitted(source string) *crowdedConn {
	_, conn := net.Pipe()
	c := &crowdedConn{Conn: conn, source: source, l: l}
	if evicted := l.admit(c); evicted != nil {
		_ = evicted.Close()
	}
	return c
}

func isOpen(c *crowdedConn) bool {
	_, counted := c.l.ofSource[c.source]
	for _, other := range c.l.conns {
		if other == c {
			return counted
		}
	}
	return false
}

// TestACrowdClosesItsOwnConnections: however many come while one probe is answered, and from however many addresses.
func TestACrowdClosesItsOwnConnections(t *testing.T) {
	for _, sources := range []int{1, 20, 200} {
		t.Run(fmt.Sprint(sources), func(t *testing.T) {
			l := newCrowdedListener(nil)
			for i := range maxConnections {
				l.admitted(fmt.Sprint(i % sources))
			}
			probe := l.admitted("probe")
			var last *crowdedConn
			for i := range 4 * maxConnections {
				last = l.admitted(fmt.Sprint(i % sources))
				if !isOpen(last) {
					t.Fatalf("newcomer %d was refused", i)
				}
			}
			if !isOpen(probe) {
				t.Error("the probe was closed")
			}
			if want := min(maxConnections, sources*maxPerSource+1); len(l.conns) != want {
				t.Errorf("%d connections are open, not %d", len(l.conns), want)
			}
		})
	}
}

// TestOneOfEachClosesTheOldest: nobody has more than another.
func TestOneOfEachClosesTheOldest(t *testing.T) {
	l := newCrowdedListener(nil)
	first, second := l.admitted("first"), l.admitted("second")
	for i := range maxConnections - 1 {
		l.admitted(fmt.Sprint(i))
	}
	if isOpen(first) || !isOpen(second) {
		t.Errorf("the oldest is open: %t, the second: %t", isOpen(first), isOpen(second))
	}
	if got := len(l.ofSource); got != maxConnections {
		t.Errorf("%d addresses are counted, not %d", got, maxConnections)
	}
}
