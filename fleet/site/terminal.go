package site

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// AskTerminal asks the person at the controlling terminal for a secret, which
// is not shown while it is typed. It does not read standard input, which may be
// a pipe.
func AskTerminal(question string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errors.New("there is no terminal to ask at; use a file, an environment variable or a vault")
	}
	defer tty.Close()
	return askAt(tty, question)
}

func askAt(tty *os.File, question string) (string, error) {
	fd := int(tty.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", errors.New("this is no terminal")
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return "", errors.New("the terminal cannot be kept from showing what is typed")
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) }()
	if _, err := tty.WriteString(question + ": "); err != nil {
		return "", errors.New("the terminal is gone")
	}
	var out []byte
	one := make([]byte, 1)
	for len(out) <= maxSecret {
		n, err := tty.Read(one)
		if n == 1 && one[0] == '\n' {
			_, _ = tty.WriteString("\n")
			return strings.TrimSuffix(string(out), "\r"), nil
		}
		if err != nil || n == 0 {
			return "", errors.New("nothing was typed")
		}
		out = append(out, one[0])
	}
	return "", errors.New("too much was typed")
}
