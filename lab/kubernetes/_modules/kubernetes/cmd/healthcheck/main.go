// Command healthcheck asks one URL whether what is behind it works: status 200
// within the time given ends it with 0, all else with 1. It is what keepalived
// asks on every control-plane node about the API server beside it.
//
// It does not verify certificates: it asks its own host, sends nothing secret
// and believes no more than the status.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: healthcheck URL TIMEOUT   (a timeout such as 3s)")
		os.Exit(2)
	}
	timeout, err := time.ParseDuration(os.Args[2])
	if err == nil {
		err = check(os.Args[1], timeout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(url string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}
