// Command isoeditor serves an ISO with an Ignition config as
// openshift/assisted-image-service does, for BenchmarkRoads to compare with.
// With a third argument it tells what a first byte costs instead.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/openshift/assisted-image-service/pkg/isoeditor"
)

func main() {
	config, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	open := func() (isoeditor.ImageReader, error) {
		return isoeditor.NewRHCOSStreamReader(os.Args[1], &isoeditor.IgnitionContent{Config: config}, nil, nil)
	}
	if len(os.Args) > 3 {
		firstByte(open)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	log.Fatal(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := open()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer in.Close()
		http.ServeContent(w, r, "x.iso", time.Time{}, in)
	})))
}

func firstByte(open func() (isoeditor.ImageReader, error)) {
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			in, err := open()
			if err != nil {
				log.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, in, 2048); err != nil {
				log.Fatal(err)
			}
			in.Close()
		}
	})
	fmt.Println(r, r.MemString())
}
