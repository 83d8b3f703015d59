package redfish

import (
	"net/url"
	"strconv"
	"strings"
)

// query is what a GET may ask of a collection.
type query struct {
	expand bool
	skip   int
	top    int // -1: all
}

// parseQuery reads the OData parameters. Unknown ones that start with $ are
// refused, others ignored (DSP0266, Query parameters).
func parseQuery(in url.Values, collection bool) (query, *problem) {
	q := query{top: -1}
	for name, values := range in {
		if !strings.HasPrefix(name, "$") && name != "only" && name != "excerpt" {
			continue
		}
		if !collection {
			return q, queryUnsupported(name)
		}
		value := values[len(values)-1]
		switch name {
		case "$expand":
			switch strings.ToLower(value) {
			case ".", ".($levels=1)":
				q.expand = true
			default:
				return q, queryUnsupported(name + "=" + value)
			}
		case "$skip", "$top":
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 {
				return q, queryInvalid(name, value)
			}
			if name == "$skip" {
				q.skip = n
			} else {
				q.top = n
			}
		default:
			return q, queryUnsupported(name)
		}
	}
	return q, nil
}
