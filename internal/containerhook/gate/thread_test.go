package gate

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAThreadOfItsOwnIsNeverTheFirst: so many at once that one would begin on it, whichever threads are idle.
func TestAThreadOfItsOwnIsNeverTheFirst(t *testing.T) {
	const count = 1000
	var all sync.WaitGroup
	all.Add(count)
	for range count {
		go onThread(func() {
			defer all.Done()
			if unix.Gettid() == unix.Getpid() {
				t.Error("it is the first thread")
			}
		})
	}
	all.Wait()
}
