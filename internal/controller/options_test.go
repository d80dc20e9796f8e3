package controller

import (
	"testing"
	"time"
)

func TestTheDefaultsAreValid(t *testing.T) {
	o := DefaultOptions()
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
}

// Each figure is tried at its bound, where it is valid, and one beyond.
func TestAFigureThatMakesNoSenseIsRefused(t *testing.T) {
	for name, figure := range map[string]struct {
		set       func(o *Options, v int64)
		good, bad []int64
	}{
		"StoppedTTL":          {func(o *Options, v int64) { o.StoppedTTL = time.Duration(v) }, []int64{0}, []int64{-1}},
		"UnmatchedStoppedTTL": {func(o *Options, v int64) { o.UnmatchedStoppedTTL = time.Duration(v) }, []int64{0}, []int64{-1}},
		"KeepStoppedPerName":  {func(o *Options, v int64) { o.KeepStoppedPerName = int(v) }, []int64{1}, []int64{0, -1}},
		"MaxObjects":          {func(o *Options, v int64) { o.MaxObjects = int(v) }, []int64{1}, []int64{0, -1}},
		"NodeGoneAfter":       {func(o *Options, v int64) { o.NodeGoneAfter = time.Duration(v) }, []int64{1}, []int64{0, -1}},
		"AgentLostAfter":      {func(o *Options, v int64) { o.AgentLostAfter = time.Duration(v) }, []int64{1}, []int64{0, -1}},
		"MassOutagePercent":   {func(o *Options, v int64) { o.MassOutagePercent = int(v) }, []int64{0, 100}, []int64{-1, 101}},
	} {
		for _, v := range figure.good {
			o := DefaultOptions()
			figure.set(&o, v)
			if err := o.Validate(); err != nil {
				t.Errorf("%s %d: %v", name, v, err)
			}
		}
		for _, v := range figure.bad {
			o := DefaultOptions()
			figure.set(&o, v)
			if err := o.Validate(); err == nil {
				t.Errorf("%s %d is taken for valid", name, v)
			}
		}
	}
}
