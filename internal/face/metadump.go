package face

import (
	"fmt"
	"io"
	"strings"
	"time"

	"drship/internal/state"
)

// MetaDump is the metadata of a volume against a peer, for dump-md.
type MetaDump struct {
	Time      time.Time
	Node      string
	Command   string // that dumps it
	Where     string // what holds the metadata
	IDs       state.IDs
	Flags     uint32
	ALExtents int
	Size      int64 // bytes
	Blocks    uint64
	// Words calls fn for each 64 bits of the bitmap from the first block on, as (word, how often in a row).
	Words func(fn func(word uint64, times uint64))
}

// Dump prints the metadata in the form of drbdmeta 8.4's dump-md. What only tells where on a disk things are is left out: they are on none.
func (m MetaDump) Dump(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# DRBD meta data dump\n# %s [%d]\n# %s> %s\n#\n\nversion \"v08\";\n\n# kept in %s\n\n", m.Time.UTC().Format("2006-01-02 15:04:05 -0700"), m.Time.Unix(), m.Node, m.Command, m.Where)
	fmt.Fprintf(&b, "uuid {\n    0x%016X; 0x%016X; 0x%016X; 0x%016X;\n    flags 0x%08X;\n}\n", m.IDs.Current, m.IDs.Bitmap, m.IDs.History[0], m.IDs.History[1], m.Flags)
	words := (m.Size + 64*4096 - 1) / (64 * 4096)
	fmt.Fprintf(&b, "# al-extents %d;\nla-size-sect %d;\nbm-byte-per-bit 4096;\ndevice-uuid 0x%016X;\nla-peer-max-bio-size 0;\nal-stripes 1;\nal-stripe-size-4k 8;\n# bm-bytes %d;\n",
		m.ALExtents, m.Size/512, 0, words*8)
	r := rows{b: &b}
	b.WriteString("bm {")
	m.Words(r.add)
	r.flush()
	fmt.Fprintf(&b, "\n}\n# bits-set %d;\n", m.Blocks)
	_, err := io.WriteString(w, b.String())
	return err
}

// rows lays out a bitmap: four words a line, from the start of a line on a run of 32 or more as one entry, and every 32 words
// where they lie.
type rows struct {
	b    *strings.Builder
	at   uint64 // words so far
	word uint64 // of the run that is not written yet
	run  uint64
}

func (r *rows) add(word, times uint64) {
	if r.run > 0 && word == r.word {
		r.run += times
		return
	}
	r.flush()
	r.word, r.run = word, times
}

func (r *rows) flush() {
	for r.run > 0 {
		if r.at%4 == 0 {
			if r.at%32 == 0 {
				fmt.Fprintf(r.b, "\n   # at %dkB", 256*r.at)
			}
			r.b.WriteString("\n   ")
			if long := r.run &^ 3; long >= 32 {
				fmt.Fprintf(r.b, " %d times 0x%016X;", long, r.word)
				r.at, r.run = r.at+long, r.run-long
				continue
			}
		}
		fmt.Fprintf(r.b, " 0x%016X;", r.word)
		r.at, r.run = r.at+1, r.run-1
	}
}
