package machine

import (
	"flag"
	"fmt"
)

// RunAtOnce has n parallel tests run at once, unless -parallel says how many: Go takes the number of cores, which is few
// where tests wait most of their time. TestMain calls it before m.Run.
func RunAtOnce(n int) {
	if !flag.Parsed() {
		flag.Parse()
	}
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	f := flag.Lookup("test.parallel")
	_ = f.Value.Set(fmt.Sprint(n)) // a number is taken
}
