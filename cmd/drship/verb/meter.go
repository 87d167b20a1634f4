package verb

import (
	"fmt"
	"io"
	"os"

	"drship/internal/face"

	"golang.org/x/sys/unix"
)

// meter keeps one line on a terminal that tells how far a resync is. A nil meter draws nothing.
type meter struct {
	w     io.Writer
	width func() int
	drawn bool
}

// newMeter returns nil where w is no terminal.
func newMeter(w io.Writer) *meter {
	f, ok := w.(*os.File)
	if !ok || terminalWidth(f) == 0 {
		return nil
	}
	return &meter{w: f, width: func() int { return terminalWidth(f) }}
}

// terminalWidth is the number of columns, 0 for what is no terminal.
func terminalWidth(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 {
		return 80 // a terminal that does not tell
	}
	return int(size.Col)
}

// draw shows the resync that is furthest from its end, and how many there are beside it.
func (m *meter) draw(rs []face.Resource) {
	if m == nil {
		return
	}
	line, others := "", -1
	var most uint64
	for i := range rs {
		for j := range rs[i].Peers {
			p := &rs[i].Peers[j]
			for k := range p.Volumes {
				s := p.Volumes[k].Sync
				if s == nil {
					continue
				}
				others++
				if line == "" || s.Left > most {
					most = s.Left
					line = m.line(fmt.Sprintf("%s/%d %s %s ", rs[i].Name, p.Volumes[k].Number, p.VolumeConn(&p.Volumes[k]), p.Name), s)
				}
			}
		}
	}
	if line == "" {
		m.end()
		return
	}
	if others > 0 {
		line += fmt.Sprintf(" (+%d)", others)
	}
	fmt.Fprintf(m.w, "\r\x1b[K%s", line)
	m.drawn = true
}

func (m *meter) line(head string, p *face.Progress) string {
	const others = 6 // room for " (+99)"
	return head + face.ProgressBar(*p, m.width()-len(head)-others)
}

// end leaves the line as it stands.
func (m *meter) end() {
	if m != nil && m.drawn {
		fmt.Fprintln(m.w)
		m.drawn = false
	}
}
