package bmc

import (
	"fmt"
	"testing"

	"metalrise.dev/fleet"
)

func withLog(under string, count int, entry func(i int) object) *fakeBMC {
	f := newFake()
	f.resources[under]["LogServices"] = ref(under + "/LogServices")
	f.resources[under+"/LogServices"] = members(under+"/LogServices/SEL", under+"/LogServices/Dump")
	f.resources[under+"/LogServices/SEL"] = object{"@odata.id": under + "/LogServices/SEL", "Id": "SEL", "Entries": ref(under + "/LogServices/SEL/Entries")}
	f.resources[under+"/LogServices/Dump"] = object{"@odata.id": under + "/LogServices/Dump", "Id": "Dump", "Entries": ref(under + "/none")}
	var paths []string
	for i := range count {
		p := fmt.Sprintf("%s/LogServices/SEL/Entries/%d", under, i)
		e := entry(i)
		e["@odata.id"] = p
		f.resources[p] = e
		paths = append(paths, p)
	}
	f.resources[under+"/LogServices/SEL/Entries"] = members(paths...)
	return f
}

func TestEvents(t *testing.T) {
	newestLast := func(i int) object {
		return object{"Id": fmt.Sprint(i), "Created": fmt.Sprintf("2026-03-01T00:%02d:00+01:00", i), "Severity": "OK", "Message": fmt.Sprint("event ", i), "MessageId": "0x1"}
	}
	newestFirst := func(i int) object {
		return object{"Id": fmt.Sprint(40 - i), "Created": fmt.Sprintf("2026-03-01T00:%02d:00Z", 40-i), "Message": fmt.Sprint("event ", 39-i)}
	}
	noClock := func(i int) object {
		return object{"Id": fmt.Sprint(i), "Created": "1970-01-01T00:00:09Z", "Message": fmt.Sprint("event ", i)}
	}
	for name, f := range map[string]*fakeBMC{
		"newest last": withLog(sysPath, 40, newestLast), "newest first": withLog(sysPath, 40, newestFirst),
		"no clock": withLog(sysPath, 40, noClock), "of the manager": withLog("/redfish/v1/Managers/1", 40, newestLast),
	} {
		t.Run(name, func(t *testing.T) {
			s := dial(t, serve(t, f))
			before := s.Stats().Requests
			list, err := s.Events(t.Context(), sysPath, 5)
			noError(t, err)
			if n := s.Stats().Requests - before; n > 18 {
				t.Errorf("%d requests for 5 entries", n)
			}
			if len(list) != 5 || list[4].Message != "event 39" || list[0].Message != "event 35" || list[4].Log != "SEL" {
				t.Errorf("entries: %+v", list)
			}
			if name == "no clock" && list[0].Created.IsKnown() {
				t.Errorf("a time from a BMC without a clock: %v", list[0].Created)
			}
		})
	}
	_, err := dial(t, serve(t, newFake())).Events(t.Context(), sysPath, 5)
	wantFault(t, err, fleet.CodeBMCUnsupported, fleet.Unsupported)
}
