package hostile

import (
	"bytes"
	"strings"

	"drship/internal/nbd"
)

// volumeSize of the export that is attacked.
const volumeSize = 64 << 20

const export = "r0"

// sequences are known-bad ones: what the suites of nbd, nbdkit, libnbd and qemu hold against servers, and what those were once broken by. None may
// write: the image is compared behind each.
var sequences = []struct {
	name string
	play func(c *client)
}{
	// Greeting.
	{"leaves at once (nbdkit CVE-2019-14850)", func(c *client) { c.Close() }},
	{"leaves in the middle of its flags", func(c *client) { c.take(18); c.say(uint16(0)); c.Close() }},
	{"speaks HTTP", func(c *client) { c.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); c.hungUp() }},
	{"unknown client flags", func(c *client) { c.greet(1 << 30); c.hungUp() }},
	{"all client flags", func(c *client) { c.greet(0xffffffff); c.hungUp() }},
	{"oldstyle client", func(c *client) { c.greet(0); c.hungUp() }},

	// Options.
	{"wrong option magic", func(c *client) { c.greet(3); c.say("IHAVEOPS", uint32(3), uint32(0)); c.hungUp() }},
	{"oldstyle magic for an option", func(c *client) { c.greet(3); c.say("NBDMAGIC", uint32(3), uint32(0)); c.hungUp() }},
	{"unknown options", unknownOptions},
	{"unknown option of 4 GiB (qemu CVE-2017-15119)", func(c *client) {
		c.greet(3)
		c.say(optionMagic, uint32(99), uint32(0xffffffff), make([]byte, 1<<20))
		c.hungUp()
	}},
	{"export name of 4 GiB (nbd CVE-2022-26495)", func(c *client) {
		c.greet(3)
		c.say(optionMagic, nbd.OptExportName, uint32(0xffffffff), make([]byte, 4096))
		c.hungUp()
	}},
	{"EXPORT_NAME of 4097 bytes (qemu CVE-2017-15118)", func(c *client) {
		c.greet(3)
		c.say(option(nbd.OptExportName, bytes.Repeat([]byte("a"), 4097)))
		c.hungUp()
	}},
	{"EXPORT_NAME of 4096 bytes", func(c *client) {
		c.greet(3)
		c.say(option(nbd.OptExportName, bytes.Repeat([]byte("a"), 4096)))
		c.hungUp()
	}},
	{"EXPORT_NAME that nobody has", func(c *client) { c.greet(3); c.say(option(nbd.OptExportName, []byte("../r0"))); c.hungUp() }},
	{"GO with names that lie about their length (nbd CVE-2022-26496)", lyingNames},
	{"names of 4096 and 4097 bytes by GO and INFO", longNames},
	{"names with NUL, dots, slashes, no UTF-8", func(c *client) {
		c.greet(3)
		for _, name := range []string{"r0\x00", "\x00", "../../etc/passwd", "r0/", "/r0", "r0/../r0", "r0/99999999999999999999", "r0/-1", "\xc0\xaf", "r0 ", "R0"} {
			c.refused(nbd.OptGo, goTo(name))
		}
	}},
	{"GO with information that does not exist", func(c *client) {
		c.greet(3)
		c.say(option(nbd.OptInfo, be(uint32(2), export, uint16(3), uint16(0xffff), uint16(77), uint16(77))))
		if kind := c.answered(); kind != nbd.RepAck {
			c.t.Errorf("INFO is answered with %#x", kind)
		}
	}},
	{"INFO, then nothing more (nbdkit CVE-2019-14851)", func(c *client) {
		c.greet(3)
		c.say(option(nbd.OptInfo, goTo(export)))
		c.answered()
		c.say(option(nbd.OptInfo, goTo("")))
		c.answered()
		c.Close()
	}},
	{"LIST with data", func(c *client) { c.greet(3); c.refused(nbd.OptList, []byte("x")) }},
	{"STRUCTURED_REPLY twice", func(c *client) {
		c.greet(3)
		for range 2 {
			c.say(option(nbd.OptStructuredReply, nil))
			c.answered()
		}
		c.refused(nbd.OptStructuredReply, []byte("x"))
	}},
	{"metadata contexts without structured replies", func(c *client) {
		c.greet(3)
		c.refused(nbd.OptSetMetaContext, be(uint32(2), export, uint32(1), uint32(15), "base:allocation"))
	}},
	{"metadata contexts that lie about their number", lyingContexts},
	{"STARTTLS on a unix socket, with and without data", func(c *client) {
		c.greet(3)
		c.refused(nbd.OptStartTLS, nil)
		c.refused(nbd.OptStartTLS, []byte("x"))
	}},
	{"STARTTLS, and a ClientHello without waiting (nbdkit CVE-2021-3716)", func(c *client) {
		c.greet(3)
		c.say(option(nbd.OptStartTLS, nil), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", make([]byte, 200))
		c.hungUp()
	}},
	{"options without end", endlessOptions},
	{"LIST without end, and nobody reads", func(c *client) {
		c.greet(3)
		go func() { // ends with the connection, which the sequence closes
			for range 100_000 {
				if _, err := c.Write(option(nbd.OptList, nil)); err != nil {
					return
				}
			}
		}()
		c.take(1)
		c.Close()
	}},
	{"ABORT with data, then an export", func(c *client) {
		c.greet(3)
		c.say(option(nbd.OptAbort, []byte("data")), option(nbd.OptGo, goTo(export)))
		c.hungUp()
	}},
	{"half an option, then gone", func(c *client) { c.greet(3); c.say(option(nbd.OptGo, goTo(export))[:19]); c.Close() }},

	// Requests.
	{"wrong request magic", func(c *client) { c.open(export); c.say(make([]byte, nbd.RequestSize)); c.hungUp() }},
	{"a reply for a request", func(c *client) { c.open(export); c.say(replyMagic, uint32(0), make([]byte, 20)); c.hungUp() }},
	{"unknown commands", func(c *client) {
		c.open(export)
		for _, cmd := range []uint16{5, 8, 9, 100, 0xffff} { // 5 is CACHE, which is not advertised; 8 is RESIZE
			c.say(request(cmd, 0, 7, 0, 4096))
			c.failed(7)
		}
		c.works()
	}},
	{"unknown flags with each command", func(c *client) {
		c.open(export)
		for _, cmd := range []uint16{nbd.CmdRead, nbd.CmdFlush, nbd.CmdTrim, nbd.CmdWriteZeroes} {
			c.say(request(cmd, 1<<15, 7, 0, 0))
			c.failed(7)
		}
		c.say(request(nbd.CmdWrite, 1<<15, 8, 0, 512), bytes.Repeat([]byte{0xee}, 512))
		c.failed(8)
		c.works()
	}},
	{"requests of no length", func(c *client) {
		c.open(export)
		for _, cmd := range []uint16{nbd.CmdRead, nbd.CmdWrite, nbd.CmdTrim, nbd.CmdWriteZeroes} {
			c.say(request(cmd, 0, 7, 4096, 0))
			c.take(nbd.SimpleReplySize) // well or not, it is answered
		}
		c.works()
	}},
	{"reads and writes over 32 MiB, up to 4 GiB", oversize},
	{"offsets outside of the export", outside},
	{"FLUSH with offset and length", func(c *client) {
		c.open(export)
		c.say(request(nbd.CmdFlush, 0, 7, 4096, 4096))
		c.failed(7)
		c.works()
	}},
	{"BLOCK_STATUS without a context", func(c *client) {
		c.open(export)
		c.say(request(nbd.CmdBlockStatus, 0, 7, 0, 4096))
		c.failed(7)
		c.works()
	}},
	{"half a request, then gone", func(c *client) {
		c.open(export)
		c.say(request(nbd.CmdTrim, 0, 1, 0, volumeSize)[:27])
		c.Close()
	}},
	{"a write, half of its data, then gone", func(c *client) {
		c.open(export)
		c.say(request(nbd.CmdWrite, 0, 1, 0, 1<<20), bytes.Repeat([]byte{0xee}, 1<<19))
		c.Close()
	}},
	{"more data than was promised", func(c *client) {
		c.open(export)
		c.say(request(nbd.CmdRead, 0, 1, 0, 512), bytes.Repeat([]byte{0xee}, 4096))
		c.hungUp()
	}},
	{"requests behind a disconnect", func(c *client) {
		c.open(export)
		c.say(request(nbd.CmdDisc, 0, 1, 0, 0), request(nbd.CmdTrim, 0, 2, 0, volumeSize), request(nbd.CmdDisc, 0, 3, 0, 0))
		c.hungUp()
	}},
	{"a disconnect with a length and data", func(c *client) {
		c.open(export)
		c.say(request(nbd.CmdDisc, 0xffff, 1, 1<<63, 0xffffffff), make([]byte, 1<<16))
		c.hungUp()
	}},
	{"many reads, and nobody takes the answers", func(c *client) {
		c.open(export)
		for cookie := range uint64(64) {
			c.say(request(nbd.CmdRead, 0, cookie, 0, 1<<20))
		}
		c.Close()
	}},
	{"one cookie for all", func(c *client) {
		c.open(export)
		for range 100 {
			c.say(request(nbd.CmdRead, 0, 4711, 0, 1))
		}
		for range 100 {
			c.take(nbd.SimpleReplySize + 1)
		}
		c.works()
	}},
	{"a byte at a time", func(c *client) {
		c.take(18)
		all := be(uint32(3), option(nbd.OptGo, goTo(export)))
		for i := range all {
			c.say(all[i : i+1])
		}
		c.answered()
		for _, b := range request(nbd.CmdRead, 0, 1, 0, 1) {
			c.say(b)
		}
		c.take(nbd.SimpleReplySize + 1)
		c.works()
	}},
}

func unknownOptions(c *client) {
	c.greet(3)
	for _, id := range []uint32{0, 4, 11, 99, 1 << 31, 0xffffffff} {
		c.refused(id, nil)
		c.refused(id, bytes.Repeat([]byte{0xff}, 8192))
	}
	c.refused(99, make([]byte, 1<<20)) // longer than options are kept, and skipped
	c.say(option(nbd.OptGo, goTo(export)))
	c.answered()
	c.works()
}

func lyingNames(c *client) {
	c.greet(3)
	for _, id := range []uint32{nbd.OptGo, nbd.OptInfo} {
		for _, n := range []uint32{3, 4096, 4097, 1 << 16, 1 << 31, 0xffffffff, 0xfffffff8} {
			c.refused(id, be(n, export, uint16(0)))
		}
		c.refused(id, nil)
		c.refused(id, be(uint16(0)))
		c.refused(id, be(uint32(2), export))
		c.refused(id, be(uint32(2), export, uint16(0xffff)))
		c.refused(id, be(uint32(2), export, uint16(0), uint16(3)))
	}
}

func longNames(c *client) {
	c.greet(3)
	for _, n := range []int{4096, 4097, 65535 - 6} {
		c.refused(nbd.OptInfo, goTo(strings.Repeat("a", n)))
		c.refused(nbd.OptGo, goTo(strings.Repeat("a", n)))
	}
}

func lyingContexts(c *client) {
	c.greet(3)
	c.say(option(nbd.OptStructuredReply, nil))
	c.answered()
	for _, id := range []uint32{nbd.OptListMetaContext, nbd.OptSetMetaContext} {
		c.refused(id, nil)
		c.refused(id, be(uint32(2), export))
		c.refused(id, be(uint32(2), export, uint32(0xffffffff)))
		c.refused(id, be(uint32(2), export, uint32(0x10000001), uint32(4), "base"))
		c.refused(id, be(uint32(2), export, uint32(1), uint32(0xffffffff), "base:"))
		c.refused(id, be(uint32(0xfffffffe), export, uint32(0)))
		c.refused(id, be(uint32(2), export, uint32(0), "trailing"))
	}
}

// endlessOptions goes on until the server has enough.
func endlessOptions(c *client) {
	c.greet(3)
	go func() { // ends when the server hangs up, which the sequence waits for
		for {
			if _, err := c.Write(option(nbd.OptInfo, goTo(export))); err != nil {
				return
			}
		}
	}()
	c.hungUp()
}

func oversize(c *client) {
	c.open(export)
	for _, n := range []uint32{32<<20 + 1, 1 << 30, 0xffffffff, 0xfffff000} {
		c.say(request(nbd.CmdRead, 0, 7, 0, n))
		c.failed(7)
	}
	c.works()
	c.say(request(nbd.CmdWrite, 0, 8, 0, 32<<20+1))
	for range 32 {
		c.say(bytes.Repeat([]byte{0xee}, 1<<20))
	}
	c.say(byte(0xee))
	c.failed(8)
	c.works()
	c.say(request(nbd.CmdWrite, 0, 9, 0, 0xffffffff), bytes.Repeat([]byte{0xee}, 1<<20)) // and no more of the 4 GiB
	c.Close()
}

func outside(c *client) {
	c.open(export)
	for _, r := range []struct {
		off uint64
		n   uint32
	}{
		{volumeSize, 1}, {volumeSize - 1, 2}, {volumeSize - 4096, 8192}, {1 << 62, 4096}, {1 << 63, 4096}, {1<<64 - 1, 1}, {1<<64 - 4096, 8192}, {1<<64 - 1, 0xffff},
	} {
		for _, cmd := range []uint16{nbd.CmdRead, nbd.CmdTrim, nbd.CmdWriteZeroes} {
			c.say(request(cmd, 0, 7, r.off, r.n))
			c.failed(7)
		}
		c.say(request(nbd.CmdWrite, 0, 8, r.off, r.n), bytes.Repeat([]byte{0xee}, int(r.n)))
		c.failed(8)
	}
	for _, cmd := range []uint16{nbd.CmdTrim, nbd.CmdWriteZeroes} {
		c.say(request(cmd, 0, 7, 4096, 0xffffffff))
		c.failed(7)
	}
	c.works()
}
