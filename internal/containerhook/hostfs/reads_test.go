package hostfs

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestNobodyWaitsForAFileSystemThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, answers := NewReads(), make(chan int)
		closed := 0
		hang := func() (int, error) { return <-answers, nil }
		began := time.Now()
		if _, err := Within(r, "/fuse/a", hang, func(int) { closed++ }); !errors.Is(err, ErrHangs) {
			t.Errorf("it hangs: %v", err)
		}
		if took := time.Since(began); took < HangsAfter || took > 2*HangsAfter {
			t.Errorf("waited %v", took)
		}
		if got := r.Hanging(); !slices.Equal(got, []string{"/fuse/a"}) {
			t.Errorf("what hangs: %v", got)
		}

		// It is not tried again while it hangs; others are.
		if _, err := Within(r, "/fuse/a", func() (int, error) { t.Error("tried again"); return 0, nil }, nil); !errors.Is(err, ErrHangs) {
			t.Errorf("again: %v", err)
		}
		if n, err := Within(r, "/b", func() (int, error) { return 7, nil }, nil); n != 7 || err != nil {
			t.Errorf("another: %d, %v", n, err)
		}

		answers <- 1
		synctest.Wait()
		if got := r.Hanging(); closed != 1 || len(got) != 0 {
			t.Errorf("after its answer %v hang, and %d results were closed", got, closed)
		}
		if n, err := Within(r, "/fuse/a", func() (int, error) { return 8, nil }, nil); n != 8 || err != nil {
			t.Errorf("after its answer: %d, %v", n, err)
		}
	})
}

func TestSoManyHangAndNoMoreThreadsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReads()
		for range MaxHanging {
			r.Begin("/fuse")
		}
		<-time.After(HangsAfter + 1)
		if _, err := Within(r, "/b", func() (int, error) { return 0, nil }, nil); !errors.Is(err, ErrManyHanging) {
			t.Errorf("one more: %v", err)
		}
	})
}
