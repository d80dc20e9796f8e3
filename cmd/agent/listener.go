package main

import (
	"net"
	"sync"
)

const (
	// maxConnections bounds what strangers can open on a port: the worker needs descriptors of its own.
	maxConnections = 256
	// maxPerSource bounds what one address of them can. A kubelet and a Prometheus need one or two at a time.
	maxPerSource = 32
)

// crowdedListener is a listener for a port that strangers reach. A newcomer is never refused: where there are too many
// connections, of its address or at all, the one that is there longest is closed for it. So whoever opens connections and
// keeps them, idle or slow, closes his own, and a probe or a scrape, which takes milliseconds, gets through.
type crowdedListener struct {
	net.Listener

	mu    sync.Mutex
	conns []*crowdedConn // guarded by mu; the oldest first
}

type crowdedConn struct {
	net.Conn
	source string
	l      *crowdedListener
	closed sync.Once
}

func newCrowdedListener(l net.Listener) *crowdedListener { return &crowdedListener{Listener: l} }

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
	ofSource := 0
	for _, other := range l.conns {
		if other.source == c.source {
			ofSource++
		}
	}
	switch {
	case ofSource > maxPerSource:
		for _, other := range l.conns {
			if other.source == c.source {
				return other
			}
		}
	case len(l.conns) > maxConnections:
		return l.conns[0]
	}
	return nil
}

func (c *crowdedConn) Close() error {
	c.closed.Do(func() {
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		for i, other := range c.l.conns {
			if other == c {
				c.l.conns = append(c.l.conns[:i], c.l.conns[i+1:]...)
				break
			}
		}
	})
	return c.Conn.Close()
}
