package nbd

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMalformedNegotiation sends what no client should send. The server answers or hangs up; it never serves the export, and
// a connection that is left open still works.
func TestMalformedNegotiation(t *testing.T) {
	name5000 := strings.Repeat("x", 5000)
	tests := []struct {
		name  string
		flags uint32
		send  []byte
		reply uint32 // 0: the server hangs up with an error
	}{
		{"unknown client flag", 1 << 7, nil, 0},
		{"plain newstyle", 0, nil, 0},
		{"wrong option magic", 3, be(uint64(1), OptList, uint32(0)), 0},
		{"huge unknown option", 3, be("IHAVEOPT", uint32(77), uint32(1<<31)), 0},
		{"huge export name", 3, be("IHAVEOPT", OptExportName, uint32(1<<17)), 0},
		{"export name too long", 3, optionBytes(OptExportName, []byte(name5000)), 0},
		{"unknown export by EXPORT_NAME", 3, optionBytes(OptExportName, []byte("r9")), 0},
		{"option cut off", 3, optionBytes(OptGo, goData("r0"))[:20], 0},
		{"unknown option", 3, optionBytes(77, []byte("data")), RepErrUnsup},
		{"long option", 3, optionBytes(OptGo, make([]byte, maxOption+1)), RepErrTooBig},
		{"LIST with data", 3, optionBytes(OptList, []byte("x")), RepErrInvalid},
		{"STRUCTURED_REPLY with data", 3, optionBytes(OptStructuredReply, []byte("x")), RepErrInvalid},
		{"STARTTLS without TLS", 3, optionBytes(OptStartTLS, nil), RepErrPolicy},
		{"GO empty", 3, optionBytes(OptGo, nil), RepErrInvalid},
		{"GO without info count", 3, optionBytes(OptGo, be(uint32(2), "r0")), RepErrInvalid},
		{"GO name length beyond data", 3, optionBytes(OptGo, be(uint32(0xffffffff), "r0", uint16(0))), RepErrInvalid},
		{"GO info count beyond data", 3, optionBytes(OptGo, be(uint32(2), "r0", uint16(9), uint16(3))), RepErrInvalid},
		{"GO data behind infos", 3, optionBytes(OptGo, be(uint32(2), "r0", uint16(0), uint16(3))), RepErrInvalid},
		{"GO name with NUL", 3, optionBytes(OptGo, goData("r\x000")), RepErrInvalid},
		{"GO name not UTF-8", 3, optionBytes(OptGo, goData("\xff\xfe")), RepErrInvalid},
		{"GO name too long", 3, optionBytes(OptGo, goData(name5000)), RepErrInvalid},
		{"GO unknown", 3, optionBytes(OptGo, goData("r9")), RepErrUnknown},
		{"INFO unknown", 3, optionBytes(OptInfo, goData("")), RepErrUnknown},
		{"SET_META without structured replies", 3, optionBytes(OptSetMetaContext, metaData("r0", BaseAllocation)), RepErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := connect(t, serving(newMemory(4096)))
			p.write(be(tt.flags))
			if tt.reply == 0 {
				go func() {
					p.c.Write(tt.send) // the server may hang up in the middle of it
					if strings.HasSuffix(tt.name, "cut off") {
						p.c.Close()
					}
				}()
				if err := <-p.done; err == nil {
					t.Fatal("no error")
				}
				return
			}
			p.write(tt.send)
			h := p.read(ReplyHeaderSize)
			if kind := binary.BigEndian.Uint32(h[12:]); kind != tt.reply {
				t.Errorf("reply %#x, want %#x", kind, tt.reply)
			}
			if text := p.read(int(binary.BigEndian.Uint32(h[16:]))); len(text) == 0 {
				t.Error("refusal without a text")
			}
			p.mustAck(OptGo, goData("r0"))
			p.alive(false)
		})
	}
}

func TestMalformedMetaContexts(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty":                    nil,
		"name beyond data":         be(uint32(9), "r0"),
		"no query count":           be(uint32(2), "r0"),
		"queries beyond data":      be(uint32(2), "r0", uint32(0xffffffff)),
		"query beyond data":        be(uint32(2), "r0", uint32(1), uint32(0xffffffff), "base:"),
		"data behind queries":      append(metaData("r0", BaseAllocation), 0),
		"query without namespace":  metaData("r0", "allocation"),
		"name that is not a name":  metaData("\xff", BaseAllocation),
		"second query is cut off":  append(be(uint32(2), "r0", uint32(2), uint32(5), "base:"), 1),
		"zero queries, extra data": append(metaData("r0"), 1, 2),
	} {
		t.Run(name, func(t *testing.T) {
			p := hello(t, serving(newMemory(4096)))
			p.mustAck(OptStructuredReply, nil)
			p.mustAck(OptSetMetaContext, metaData("r0", BaseAllocation))
			if kind, _ := p.last(OptSetMetaContext, data); kind != RepErrInvalid {
				t.Errorf("reply %#x", kind)
			}
			// The failed option took the selection back.
			p.mustAck(OptGo, goData("r0"))
			p.write(requestBytes(CmdBlockStatus, 0, 1, 0, 4096))
			if a := p.answer(0); a.code != codeInvalid {
				t.Errorf("block status: %+v", a)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	m := newMemory(1<<20 + 100)
	m.minBlock = 512
	m.info = Info{Name: "r0", Description: "volume 0 of r0"}
	cfg := serving(m)
	cfg.Directory.(*shelf).exports["drbd0"] = m
	p := hello(t, cfg)

	kinds, datas := p.option(OptList, nil)
	if len(kinds) != 3 || kinds[0] != RepServer || kinds[2] != RepAck {
		t.Fatalf("list %v", kinds)
	}
	slices.Sort(datas[:2])
	if want := string(be(uint32(2), "r0volume r0")); datas[0] != want {
		t.Errorf("list entry %q, want %q", datas[0], want)
	}

	kinds, datas = p.option(OptInfo, goData("drbd0", InfoName, InfoDescription, InfoBlockSize, 99))
	flags := FlagHasFlags | FlagSendFlush | FlagSendFUA | FlagSendTrim | FlagSendWriteZeroes | FlagCanMultiConn | FlagSendFastZero
	want := []string{
		string(be(InfoExport, uint64(1<<20), flags)), // the size is rounded down to whole blocks
		string(be(InfoBlockSize, uint32(512), uint32(4096), uint32(MaxPayload))),
		string(be(InfoName, "r0")),
		string(be(InfoDescription, "volume 0 of r0")),
		"",
	}
	if !slices.Equal(kinds, []uint32{RepInfo, RepInfo, RepInfo, RepInfo, RepAck}) || !slices.Equal(datas, want) {
		t.Errorf("info %v %q", kinds, datas)
	}

	p.mustAck(OptStructuredReply, nil)
	for _, queries := range [][]string{nil, {"base:"}, {"qemu:dirty", BaseAllocation}} {
		kinds, datas := p.option(OptListMetaContext, metaData("r0", queries...))
		if len(kinds) != 2 || kinds[0] != RepMetaContext || datas[0] != string(be(uint32(0), BaseAllocation)) {
			t.Errorf("list meta contexts %q: %v %q", queries, kinds, datas)
		}
	}
	for _, queries := range [][]string{nil, {"base:"}, {"qemu:dirty"}, {"base:nothing"}} {
		if kinds, _ := p.option(OptSetMetaContext, metaData("r0", queries...)); len(kinds) != 1 || kinds[0] != RepAck {
			t.Errorf("set meta contexts %q: %v", queries, kinds)
		}
	}
	// A context that was selected for one export is of no use for another.
	p.mustAck(OptSetMetaContext, metaData("drbd0", BaseAllocation))
	_, datas = p.option(OptGo, goData("r0"))
	if want := string(be(InfoExport, uint64(1<<20), flags|FlagSendDF)); datas[0] != want {
		t.Errorf("go %q, want %q", datas[0], want)
	}
	p.write(requestBytes(CmdBlockStatus, 0, 1, 0, 4096))
	if a := p.answer(0); a.code != codeInvalid {
		t.Errorf("block status: %+v", a)
	}
	p.write(requestBytes(CmdDisc, 0, 2, 0, 0))
	if err := p.ended(); err != nil {
		t.Error(err)
	}
	if d := cfg.Directory.(*shelf); d.opened != 2 || d.closed != 2 {
		t.Errorf("opened %d times, released %d times", d.opened, d.closed)
	}
}

func TestExportName(t *testing.T) {
	for _, flags := range []uint32{ClientFixedNewstyle, ClientFixedNewstyle | ClientNoZeroes} {
		m := newMemory(4096)
		m.readOnly = true
		p := connect(t, serving(m))
		p.write(be(flags), optionBytes(OptExportName, []byte("r0")))
		want := string(be(uint64(4096), FlagHasFlags|FlagReadOnly|FlagSendFlush|FlagSendFUA|FlagCanMultiConn))
		if flags&ClientNoZeroes == 0 {
			want += strings.Repeat("\x00", 124)
		}
		if got := string(p.read(len(want))); got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
		p.write(requestBytes(CmdWrite, 0, 1, 0, 1, 9))
		if a := p.answer(0); a.code != codePerm {
			t.Errorf("write to a read-only export: %+v", a)
		}
	}
}

func TestRefusals(t *testing.T) {
	const text = "r0 is Secondary here; promote it with: drship primary r0"
	cfg := Config{Directory: &shelf{refuse: map[string]error{
		"r0": &PolicyError{Text: text}, "r1": ErrShutdown, "r2": errors.New("no disk"),
	}}}
	p := hello(t, cfg)
	for _, tt := range []struct {
		name string
		kind uint32
		text string
	}{
		{"r0", RepErrPolicy, text},
		{"r1", RepErrShutdown, "server is shutting down"},
		{"r2", RepErrUnknown, `export "r2" cannot be opened: no disk`},
		{"r3", RepErrUnknown, `no export is named "r3" here`},
	} {
		if kind, text := p.last(OptGo, goData(tt.name)); kind != tt.kind || text != tt.text {
			t.Errorf("%s: %#x %q", tt.name, kind, text)
		}
	}
	p.mustAck(OptAbort, []byte("ignored"))
	if err := p.ended(); err != nil {
		t.Errorf("abort: %v", err)
	}
}

// TestStuckHandshakeIsDropped gives a client that never picks an export its time, in fake time, and an idle one all the
// time it wants.
func TestStuckHandshakeIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hello(t, Config{Directory: &shelf{}, HandshakeTimeout: 5 * time.Second})
		begin := time.Now()
		p.mustAck(OptList, nil)
		if err := <-p.done; err == nil {
			t.Error("no error")
		}
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("dropped after %v", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := start(t, serving(newMemory(4096)), false)
		p.c.SetDeadline(time.Time{})
		p.alive(false)
		time.Sleep(1000 * time.Hour)
		p.alive(false)
		p.c.Close()
		if err := <-p.done; err != nil {
			t.Error(err)
		}
	})
}

// TestStalledClientIsDropped stops in the middle of a payload, and in the middle of taking a reply.
func TestStalledClientIsDropped(t *testing.T) {
	for name, send := range map[string][]byte{
		"payload": requestBytes(CmdWrite, 0, 1, 0, 1<<20, make([]byte, 100)...),
		"reply":   requestBytes(CmdRead, 0, 1, 0, 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := serving(newMemory(1 << 20))
				cfg.StallTimeout = time.Minute
				p := start(t, cfg, false)
				p.c.SetDeadline(time.Time{})
				p.write(send)
				begin := time.Now()
				if err := <-p.done; err == nil {
					t.Error("no error")
				}
				if d := time.Since(begin); d < time.Minute || d > 3*time.Minute {
					t.Errorf("dropped after %v", d)
				}
				if _, err := io.Copy(io.Discard, p.c); err != nil {
					t.Errorf("read what is left: %v", err)
				}
			})
		})
	}
}
