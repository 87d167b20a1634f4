// Package tun is a line between two network namespaces: two TUN devices, and for each direction a thread that reads packets
// from one, does to them what the model says (bench/wan/emu), and writes them to the other. It carries whatever IP carries,
// TCP and UDP alike, IPv4 and IPv6.
//
//	┌ namespace A ────────┐                                ┌ namespace B ────────┐
//	│ 10.77.0.1  wan0 ────┼─> read ─> emu.Line ─> write ──>│── wan0  10.77.0.2   │
//	│ fd77::1         <───┼── write <─ emu.Line <─ read <──│──       fd77::2     │
//	└─────────────────────┘                                └─────────────────────┘
//
// The devices pass super-packets and unfinished checksums (IFF_VNET_HDR), so a system call carries up to 64 KB. The model
// still sees packets as they are on the wire: a super-packet is looked at packet by packet, each may be lost, and what is left of it
// is delivered in rows, at the times at which a wire would have brought them.
//
// All this runs in a process of its own, the engine: the same program, started again (see Main), with real-time priority for all its
// threads. A busy machine, or a busy user of this package, does not make the line slow: its packets are late by tens of microseconds.
//
//	line.go     the line as its user sees it: starts the engine and speaks to it
//	engine.go   the engine
//	first.go    priorities
//	space.go    network namespaces
//	device.go   TUN devices
//	packet.go   super-packets: cutting them, checksums, flipping bits
//	pool.go     buffers
//	forward.go  a direction's thread
package tun
