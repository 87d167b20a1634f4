// Wan is an honest bad line on one machine, and what can be measured over it. It needs root, TUN devices and ip (iproute2).
//
//	go run ./bench/wan line                              100 Mbit/s, 50 ms round trip, 1 % lost, until Ctrl-D
//	go run ./bench/wan line -both 'rate=1G rtt=100ms loss=0.1%'
//	go run ./bench/wan line -ab 'rate=100M delay=25ms loss=1% burst=8' -ba 'rate=10M delay=40ms jitter=5ms'
//	go run ./bench/wan line -script '5s cut; 8s heal; 20s set ab loss=2%' -- sh -c '$B iperf3 -s -1 & sleep 1; $A iperf3 -c $ADDR_B -C bbr'
//	go run ./bench/wan bench                             what is carried over it: the tables of make bench-wan
//	go run ./bench/wan bench -subjects quic,drship -cells 100M/50ms/0+1% -cuts '' -half '' -wan 'link-rate 50M'
//	                                                     two subjects on two cells, with a statement for our wan section
//	go run ./bench/wan bench -first                      the same where others use the machine: with priority over them
//
// A line joins two network namespaces, a and b. A command behind -- finds in $A and $B what puts a program into one of them (nsenter …),
// in $ADDR_A and $ADDR_B their addresses (10.77.0.1 and 10.77.0.2; fd77::1 and fd77::2 are there, too), and in $NET_A and
// $NET_B the namespaces themselves. Without a command, line prints these, and reads commands from its input:
//
//	cut [ab|ba]              drop everything, in both directions or one
//	heal [ab|ba]
//	set [ab|ba] SETTINGS     rate=100M rtt=50ms delay=25ms jitter=2ms queue=1M loss=1% burst=8
//	                         ge=0.2%,12%,0,100% reorder=1% reorder-by=5ms duplicate=1% corrupt=0.1% forge=yes
//	show                     settings and counters
//	quit
//
// What the settings mean stands in bench/wan/emu. A rate counts IP packets with their headers; the queue before it is one round trip long
// where nothing else is said; what is lost at random has used the line. Packets that the line itself did not get to in time are
// counted as missed, late and refused: as long as these are small, the line is the bottleneck and not the emulator.
//
//	main.go      verbs
//	line.go      the verb line: a line by hand
//	console.go   commands that change a line while it runs
//	bench.go     the verb bench: which subjects, which cells
//	cell.go      lines that are measured
//	meter.go     the rate at which a pair stages
//	subject.go   what is measured; iperf.go TCP, quic.go a QUIC connection, ours.go a pair
//	goodput.go   tables of goodput
//	recovery.go  what comes out of a line behind a cut
//	lag.go       how far behind the peer is on a line that is half full
//	report.go    what the figures depend on, and where they are kept
package main
