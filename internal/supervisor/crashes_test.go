package supervisor

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestOneCrashRestartsAtOnceAndKeepsTheHook(t *testing.T) {
	var c crashes
	if pause := c.add(noon); pause != firstPause {
		t.Errorf("pause %v, want %v", pause, firstPause)
	}
	if c.hookOff(noon) != 0 {
		t.Error("one crash took the hook away")
	}
}

func TestPausesDoubleWithinTheWindowAndStayBounded(t *testing.T) {
	var c crashes
	last := time.Duration(0)
	for i := range 40 {
		pause := c.add(noon.Add(time.Duration(i) * time.Second))
		if pause < last || pause > lastPause {
			t.Fatalf("crash %d: pause %v after %v", i, pause, last)
		}
		last = pause
	}
	if last != lastPause {
		t.Errorf("the pause ends at %v, want %v", last, lastPause)
	}
}

func TestCrashesFarApartDoNotAddUp(t *testing.T) {
	var c crashes
	for i := range 20 {
		now := noon.Add(time.Duration(i) * 2 * window)
		if pause := c.add(now); pause != firstPause {
			t.Fatalf("crash %d: pause %v", i, pause)
		}
		if c.hookOff(now) != 0 {
			t.Fatalf("crash %d took the hook away", i)
		}
	}
}

func TestTooManyCrashesTakeTheHookAwayForAWhile(t *testing.T) {
	var c crashes
	for i := range tooMany - 1 {
		c.add(noon.Add(time.Duration(i) * time.Second))
	}
	if c.hookOff(noon.Add(tooMany*time.Second)) != 0 {
		t.Error("the hook is off too early")
	}
	c.add(noon.Add(tooMany * time.Second))
	if c.hookOff(noon.Add(tooMany*time.Second)) != hookOffFor {
		t.Error("the hook is still on")
	}
	if c.hookOff(noon.Add(tooMany*time.Second+hookOffFor)) != 0 {
		t.Error("the hook is off for ever")
	}
}
