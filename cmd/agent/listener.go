package main

import (
	"net"
	"slices"
	"sync"
)

const (
	// maxConnections bounds what strangers can open on a port: the worker needs descriptors of its own.
	maxConnections = 256
	// maxPerSource bounds what one address of them can. A kubelet and a Prometheus need one or two at a time.
	maxPerSource = 32
)

// crowdedListener is a listener for a port that strangers reach. A newcomer is never refused: where there are too many
// connections, of its address or at all, the oldest one is closed for it of the address that has most. So whoever opens
// connections, and keeps them or comes again, closes his own, and a probe or a scrape gets through.
type crowdedListener struct {
	net.Listener

	mu       sync.Mutex
	conns    []*crowdedConn // guarded by mu; the oldest first
	ofSource map[string]int // guarded by mu; how many of conns each address has
}

type crowdedConn struct {
	net.Conn
	source string
	l      *crowdedListener
	closed sync.Once
}

func newCrowdedListener(l net.Listener) *crowdedListener {
	return &crowdedListener{Listener: l, ofSource: map[string]int{}}
}

func (l *crowdedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	source, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		source = conn.RemoteAddr().String()
	}
	c := &crowdedConn{Conn: conn, source: source, l: l}
	if evicted := l.admit(c); evicted != nil {
		_ = evicted.Close() // nobody is left to hear of an error
	}
	return c, nil
}

// admit adds c, and returns the connection that has to leave for it.
func (l *crowdedListener) admit(c *crowdedConn) (evicted *crowdedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	l.ofSource[c.source]++
	if l.ofSource[c.source] <= maxPerSource && len(l.conns) <= maxConnections {
		return nil
	}

	most := 0
	for _, count := range l.ofSource {
		most = max(most, count)
	}
	for _, other := range l.conns {
		if l.ofSource[other.source] == most {
			return other
		}
	}
	return nil
}

func (c *crowdedConn) Close() error {
	c.closed.Do(func() {
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		if i := slices.Index(c.l.conns, c); i >= 0 {
			c.l.conns = slices.Delete(c.l.conns, i, i+1)
		}
		if c.l.ofSource[c.source]--; c.l.ofSource[c.source] == 0 {
			delete(c.l.ofSource, c.source)
		}
	})
	return c.Conn.Close()
}
