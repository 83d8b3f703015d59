// Command isoeditor serves an ISO with an Ignition config as
// openshift/assisted-image-service does, for BenchmarkRoads to compare with.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/openshift/assisted-image-service/pkg/isoeditor"
)

func main() {
	config, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	log.Fatal(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := isoeditor.NewRHCOSStreamReader(os.Args[1], &isoeditor.IgnitionContent{Config: config}, nil, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer in.Close()
		http.ServeContent(w, r, "x.iso", time.Time{}, in)
	})))
}
