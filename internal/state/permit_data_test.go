package state

import "testing"

func TestMayResize(t *testing.T) {
	up := Local{Role: Primary, Disks: []Disk{UpToDate}}
	peer := PeerView{Name: "bob", Conn: Connected, Repl: []Conn{Connected}, Role: Secondary, Disks: []Disk{UpToDate}}
	with := func(change func(*Local, *PeerView)) (Local, []PeerView) {
		l, p := up, peer
		change(&l, &p)
		return l, []PeerView{p}
	}
	for name, c := range map[string]struct {
		want   Code
		change func(*Local, *PeerView)
	}{
		"in sync":           {0, func(*Local, *PeerView) {}},
		"no Primary":        {ErrNoPrimary, func(l *Local, _ *PeerView) { l.Role = Secondary }},
		"Primary elsewhere": {ErrNoPrimary, func(l *Local, p *PeerView) { l.Role, p.Role = Secondary, Primary }},
		"diskless":          {ErrNoDisk, func(l *Local, _ *PeerView) { l.Disks = []Disk{Diskless} }},
		"apart":             {SSNeedConnection, func(_ *Local, p *PeerView) { p.Conn = WFConnection }},
		"resync":            {ErrResizeResync, func(_ *Local, p *PeerView) { p.Repl = []Conn{SyncSource} }},
		"ahead":             {ErrResizeResync, func(_ *Local, p *PeerView) { p.Repl = []Conn{Ahead} }},
		"peer inconsistent": {ErrResizeResync, func(_ *Local, p *PeerView) { p.Disks = []Disk{Inconsistent} }},
	} {
		l, peers := with(c.change)
		f := MayResize(l, peers)
		if f == nil && c.want != 0 || f != nil && f.Code != c.want {
			t.Errorf("%s: %v, want %d", name, f, c.want)
		}
	}
}

func TestResizeTo(t *testing.T) {
	for _, c := range []struct {
		current, wanted int64
		rooms           []int64
		want            int64
		code            Code
	}{
		{100, 0, []int64{300, 200}, 200, 0},
		{100, 0, []int64{300, 50}, 100, 0},
		{100, 150, []int64{300, 200}, 150, 0},
		{100, 100, []int64{100, 100}, 100, 0},
		{100, 250, []int64{300, 200}, 0, ErrDiskTooSmall},
		{100, 50, []int64{300, 200}, 0, ErrImplicitShrink},
	} {
		got, f := ResizeTo(c.current, c.wanted, c.rooms)
		if got != c.want || f == nil && c.code != 0 || f != nil && f.Code != c.code {
			t.Errorf("%+v: %d, %v", c, got, f)
		}
	}
}

func TestMayDeclareEqual(t *testing.T) {
	l := Local{Role: Secondary, Disks: []Disk{Inconsistent}}
	peer := PeerView{Name: "bob", Conn: Connected, Repl: []Conn{Connected}, Role: Secondary, Disks: []Disk{Inconsistent}}
	for name, c := range map[string]struct {
		want   Code
		change func(*Local, *PeerView)
	}{
		"fresh":        {0, func(*Local, *PeerView) {}},
		"Primary":      {ErrDataNotCurrent, func(l *Local, _ *PeerView) { l.Role = Primary }},
		"peer Primary": {ErrDataNotCurrent, func(_ *Local, p *PeerView) { p.Role = Primary }},
		"apart":        {SSNeedConnection, func(_ *Local, p *PeerView) { p.Conn = WFConnection }},
		"resync":       {SSResyncRunning, func(_ *Local, p *PeerView) { p.Repl = []Conn{SyncTarget} }},
	} {
		l, p := l, peer
		c.change(&l, &p)
		f := MayDeclareEqual(l, []PeerView{p})
		if f == nil && c.want != 0 || f != nil && f.Code != c.want {
			t.Errorf("%s: %v, want %d", name, f, c.want)
		}
	}
	if f := MayDeclareEqual(l, nil); f == nil || f.Code != SSNeedConnection {
		t.Errorf("alone: %v", f)
	}
}
