// Command image packs directories as an OCI image, with nothing but the standard library: no docker, no network, and
// the same bytes whenever the files are the same.
//
//	go run ./hack/image -name repo/image:tag -created 1700000000 -o image.tar linux/amd64=bin/amd64 linux/arm64=bin/arm64
//
// Each argument is a platform and the directory whose files are the image's root. The output is an OCI image layout in a
// tar, which ctr, podman, skopeo, kind and docker (25 and newer) load. The digest goes to standard output.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run() error {
	out := flag.String("o", "image.tar", "file to write")
	name := flag.String("name", "", "the image's name and tag")
	created := flag.Int64("created", 0, "time of everything in it, in seconds since 1970")
	entrypoint := flag.String("entrypoint", "", "the program that is run, and its arguments, separated by spaces")
	user := flag.String("user", "65532:65532", "whom it is run as")
	labels := map[string]string{}
	flag.Func("label", "a label, KEY=VALUE; can be repeated", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("not KEY=VALUE")
		}
		labels[key] = value
		return nil
	})
	flag.Parse()
	if *name == "" || flag.NArg() == 0 {
		flag.Usage()
		return errors.New("a name and a directory are needed")
	}
	image := image{name: *name, created: time.Unix(*created, 0).UTC(), entrypoint: strings.Fields(*entrypoint), user: *user, labels: labels}
	for _, arg := range flag.Args() {
		p, dir, ok := strings.Cut(arg, "=")
		system, architecture, ok2 := strings.Cut(p, "/")
		if !ok || !ok2 {
			return fmt.Errorf("%q is not OS/ARCHITECTURE=DIRECTORY", arg)
		}
		image.variants = append(image.variants, variant{platform{architecture, system}, dir})
	}
	l, err := image.layout()
	if err != nil {
		return err
	}
	if err := os.WriteFile(*out, l.tar, 0o644); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	fmt.Println(l.digest)
	return nil
}
