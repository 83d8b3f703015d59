package main

import (
	"context"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/provision"
)

// inspectIPMI reads the one server behind a BMC that knows IPMI only, with the
// endpoint's own login. There is no certificate that could be pinned.
func (d *door) inspectIPMI(ctx context.Context, at fleet.Endpoint) (provision.Behind, error) {
	password, err := d.secrets.Resolve(at.Password)
	if err != nil {
		return provision.Behind{}, err
	}
	s, err := bmc.DialIPMI(ctx, bmc.Login{Endpoint: at, Password: password})
	if err != nil {
		return provision.Behind{}, err
	}
	defer s.Close()
	f, err := s.Inspect(ctx, "")
	if err != nil {
		return provision.Behind{}, err
	}
	return provision.Behind{Servers: []fleet.Facts{f}, Username: at.Username, Password: at.Password, What: "server", Why: "IPMI stands for one server"}, nil
}
