// Package bench measures metalrise from end to end: racks of emulated servers
// are discovered, inspected, planned and installed with the program's own code,
// over real TLS and with the real journal on disk. Only the machines are fake.
//
// It never measures one part alone (each package has benchmarks of its own) and
// nothing of it is part of the program.
//
//	go test ./bench                                   three servers, and engines that are cut
//	go test ./bench -run '^$' -bench . -benchtime 1x  the tables of docs/performance.md
package bench
