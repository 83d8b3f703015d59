package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// roads is provision's way to ask what of the boot ladder this engine can serve.
type roads struct {
	routes
	plain int    // port of media without TLS; 0: none
	net   string // why nothing boots from the network here; "" when it can
}

// Unserved implements provision.Roads.
func (r roads) Unserved(route fleet.BootRoute) string {
	switch {
	case route == fleet.USB || route == fleet.VirtualMedia:
		return ""
	case r.plain == 0:
		return "media are not served without TLS"
	case route == fleet.VirtualMediaHTTP:
		return ""
	}
	return r.net
}

// Plain implements provision.Roads.
func (r roads) Plain(host string) (string, error) {
	if r.plain == 0 {
		return "", fleet.NewFault(fleet.CodeUnexpected, fleet.Conflict, nil, "media are not served without TLS")
	}
	address, err := r.address(host)
	if err != nil {
		return "", err
	}
	return "http://" + net.JoinHostPort(address, strconv.Itoa(r.plain)), nil
}

// plainPort is where media without TLS are served: where BMCs were told before,
// if that port is still free, else any. A BMC that was told another one does not
// find its medium there, and its server goes on to the next rung.
func plainPort(ctx context.Context, st *store.Store, address string) (string, error) {
	known, err := st.PlainPort(ctx)
	if err != nil {
		return "", err
	}
	at := net.JoinHostPort(address, strconv.Itoa(known))
	if known == 0 {
		return at, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return net.JoinHostPort(address, "0"), nil
	}
	return at, l.Close()
}

// Medium writes the live medium of a server that waits for it. It is api's way in.
func (d *daemon) Medium(w http.ResponseWriter, r *http.Request, id fleet.ServerID) error {
	res, err := d.Engine.Medium(id)
	if err != nil {
		return err
	}
	if d.medium == nil {
		return errors.New("this engine makes no media")
	}
	im, err := d.medium(res.Key, res)
	if err != nil {
		return err
	}
	im.ServeHTTP(w, r)
	return nil
}
