package fleet

import (
	"fmt"
	"testing"
)

func TestMigrationRange(t *testing.T) {
	for subnet, want := range map[string]string{
		"10.0.20.0/24":     "10.0.20.2 10.0.20.250 249",
		"10.0.20.77/24":    "10.0.20.2 10.0.20.250 249",
		"10.0.20.16/28":    "10.0.20.18 10.0.20.26 9",
		"10.0.20.8/29":     "10.0.20.10 10.0.20.10 1",
		"172.16.0.0/12":    "172.16.0.2 172.31.255.250 1048569",
		"255.255.255.0/24": "255.255.255.2 255.255.255.250 249",
		"10.0.20.8/30":     "invalid IP invalid IP 0",
		"fd00::/64":        "invalid IP invalid IP 0",
		"":                 "invalid IP invalid IP 0",
	} {
		first, last, count := VMNetwork{Subnet: subnet}.MigrationRange()
		if got := fmt.Sprint(first, last, count); got != want {
			t.Errorf("%s: %s, want %s", subnet, got, want)
		}
	}
}
