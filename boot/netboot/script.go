package netboot

import (
	"bytes"
	"fmt"
	"strconv"
)

// Script is what iPXE is to do for one machine: fetch a kernel and its initial
// RAM disks, and start it.
type Script struct {
	Kernel  string   // address
	Initrds []string // addresses, in the order in which the kernel unpacks them
	Args    []Arg
}

// maxInitrds is three times what any of our systems needs.
const maxInitrds = 9

// tries is how often iPXE fetches everything again before it gives the machine
// back to its firmware. Nothing is started before everything was fetched.
const tries = 5

// Render makes the script. Only addresses and arguments of a checked form get
// into it.
func (s Script) Render() ([]byte, error) {
	if len(s.Initrds) > maxInitrds {
		return nil, fmt.Errorf("boot script: %d initial RAM disks, at most %d are allowed", len(s.Initrds), maxInitrds)
	}
	for _, u := range append([]string{s.Kernel}, s.Initrds...) {
		if err := checkURL(u); err != nil {
			return nil, fmt.Errorf("boot script: %w", err)
		}
	}
	var line bytes.Buffer
	for i := range s.Initrds {
		// a kernel that is started as an EFI program finds them by these names
		fmt.Fprintf(&line, " initrd=initrd%d", i)
	}
	for _, a := range s.Args {
		if a.text == "" {
			return nil, fmt.Errorf("boot script: an empty kernel argument")
		}
		line.WriteString(" " + a.text)
	}
	if line.Len()-1 > maxArgs {
		return nil, fmt.Errorf("boot script: the kernel arguments have %d bytes, the kernel takes %d", line.Len()-1, maxArgs)
	}
	var b bytes.Buffer
	b.WriteString("#!ipxe\n")
	for i := 1; i <= tries; i++ {
		n := strconv.Itoa(i)
		b.WriteString(":try" + n + "\nimgfree\n")
		again := "failed" + n
		fmt.Fprintf(&b, "kernel --name kernel %s%s || goto %s\n", s.Kernel, line.String(), again)
		for j, u := range s.Initrds {
			fmt.Fprintf(&b, "initrd --name initrd%d %s || goto %s\n", j, u, again)
		}
		fmt.Fprintf(&b, "boot || goto %s\n", again)
		fmt.Fprintf(&b, ":%s\necho metalrise: try %d of %d did not work\nsleep %d\n", again, i, tries, 2*i)
	}
	// without our image the firmware goes on with its next device
	b.WriteString("imgfree\nexit 1\n")
	return b.Bytes(), nil
}

// Chain is a script that loads another program in place of this iPXE: for an
// iPXE in a network card that is too old to be trusted with the rest.
func Chain(address string) ([]byte, error) {
	if err := checkURL(address); err != nil {
		return nil, fmt.Errorf("boot script: %w", err)
	}
	return []byte("#!ipxe\nimgfree\nchain --replace --autofree " + address + " || exit 1\n"), nil
}
