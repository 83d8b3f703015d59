package redfish

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"

	"metalrise.dev/lab/machine/fake"
)

// BenchmarkRack starts n BMCs with one shared certificate and, over real TLS on
// one connection each, reads the system and switches it on. It reports the
// memory that stays per BMC.
func BenchmarkRack(b *testing.B) {
	text, err := newCertificate("127.0.0.1:0", "shared")
	if err != nil {
		b.Fatal(err)
	}
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				rack := make([]*BMC, n)
				for i := range rack {
					spec := testSpec()
					spec.Name, spec.Serial = fmt.Sprintf("n%d", i), fmt.Sprintf("S%d", i)
					rack[i], err = Start(b.Context(), Config{Listen: "127.0.0.1:0", Username: testUser, Password: testPass,
						Spec: spec, Hardware: fake.New(spec, nil), Media: Lazy, Certificate: &cert})
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(heap()-before)/float64(n)/1024, "KiB/bmc")
				for _, one := range rack {
					visit(b, one)
				}
				for _, one := range rack {
					if err := one.Close(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func visit(b *testing.B, one *BMC) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	at := "/redfish/v1/Systems/" + one.SystemID()
	for _, req := range []*http.Request{request("GET", at, nil), request("POST", at+"/Actions/ComputerSystem.Reset", object{"ResetType": "On"})} {
		req.RequestURI, req.URL.Scheme, req.URL.Host = "", "https", one.Addr()
		req.SetBasicAuth(testUser, testPass)
		res, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode/100 != 2 {
			b.Fatalf("%s: %s", req.URL, res.Status)
		}
	}
}
