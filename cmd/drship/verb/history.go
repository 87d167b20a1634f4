package verb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drship/cmd/drship/control"
	"drship/internal/block"
	"drship/internal/discard"
)

func (a *app) history() *cobra.Command {
	return family("history", groupData, "Look at, export or drop what this node wrote and gave up",
		"When the other side's data wins, in a split brain or after a failover, what this node had written on its own is kept in a file where max-history has room for it. "+
			"It is removed by hand only. The command reads the state directory: it needs no daemon.",
		"  drship history list r0\n  drship history export r0 --to lost.img\n  drship history drop r0 20260102T030405.000Z",
		a.historyList(), a.historyExport(), a.historyDrop())
}

func (a *app) historyList() *cobra.Command {
	return member{use: "list RES", short: "Say what is kept, and which blocks", example: "  drship history list r0", args: cobra.ExactArgs(1),
		run: func(_ *cobra.Command, args []string) error {
			names, err := a.keptFiles(args[0])
			if err != nil {
				return err
			}
			if len(names) == 0 {
				return a.say("%s: nothing is kept", args[0])
			}
			for _, name := range names {
				if err := a.describe(args[0], name); err != nil {
					return err
				}
			}
			return nil
		}}.command()
}

func (a *app) historyExport() *cobra.Command {
	var to string
	var volume uint16
	cmd := member{use: "export RES [NAME]", short: "Write the blocks of one volume into a sparse image, each at its place",
		long: "The image has the size of the volume; what was not given up is a hole. NAME is one that list prints, the newest if none is given. An image that is there is not " +
			"overwritten.",
		example: "  drship history export r0 --to lost.img\n  drship history export r0 20260102T030405.000Z --volume 1 --to lost1.img", args: cobra.RangeArgs(1, 2),
		run: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return &usageError{err: errors.New("--to says where the image goes"), command: cmd.CommandPath()}
			}
			name, err := a.keptFile(args)
			if err != nil {
				return err
			}
			return a.export(args[0], name, volume, to)
		}}.command()
	cmd.Flags().StringVar(&to, "to", "", "the image to write; required")
	cmd.Flags().Uint16Var(&volume, "volume", 0, "number of the volume")
	return cmd
}

func (a *app) historyDrop() *cobra.Command {
	return member{use: "drop RES NAME", short: "Remove what is kept under a name", example: "  drship history drop r0 20260102T030405.000Z", args: cobra.ExactArgs(2),
		run: func(_ *cobra.Command, args []string) error {
			name, err := a.keptFile(args)
			if err != nil {
				return err
			}
			if err := os.Remove(a.keptPath(args[0], name)); err != nil {
				return fmt.Errorf("drop %s: %w", name, err)
			}
			return nil
		}}.command()
}

func (a *app) say(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.deps.Stdout, format+"\n", args...); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (a *app) keptPath(resource, name string) string {
	return filepath.Join(discard.Folder(a.node.StateDir, resource), name+discard.Suffix)
}

// keptFiles names what is kept of a resource, oldest first.
func (a *app) keptFiles(resource string) ([]string, error) {
	if resource != filepath.Base(resource) {
		return nil, &control.Error{What: resource, Text: "not the name of a resource", Exit: control.ExitUsage}
	}
	entries, err := os.ReadDir(discard.Folder(a.node.StateDir, resource))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for what is kept: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), discard.Suffix); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// keptFile is the name that the arguments mean.
func (a *app) keptFile(args []string) (string, error) {
	names, err := a.keptFiles(args[0])
	if err != nil {
		return "", err
	}
	hint := "drship history list " + args[0]
	switch {
	case len(names) == 0:
		return "", &control.Error{What: args[0], Text: "nothing is kept", Exit: control.ExitRefused}
	case len(args) == 1:
		return names[len(names)-1], nil
	case !slices.Contains(names, args[1]):
		return "", &control.Error{What: args[1], Text: "nothing is kept under this name", Hint: hint, Exit: control.ExitUsage}
	}
	return args[1], nil
}

// eachKept calls fn for every block of a kept file.
func (a *app) eachKept(resource, name string, head func(discard.Header) error, fn func(discard.Image) error) error {
	f, err := os.Open(a.keptPath(resource, name))
	if err != nil {
		return fmt.Errorf("open what is kept: %w", err)
	}
	defer f.Close()
	r, err := discard.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer r.Close()
	if err := head(r.Header); err != nil {
		return err
	}
	for {
		m, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := fn(m); err != nil {
			return err
		}
	}
}

// describe prints a kept file: what it is, and the ranges that it holds.
func (a *app) describe(resource, name string) error {
	var volume uint16
	var first, next uint64
	blocks := 0
	flush := func() error {
		if next == first {
			return nil
		}
		return a.say("  volume %d: bytes %d to %d", volume, first*block.Size, next*block.Size)
	}
	err := a.eachKept(resource, name, func(h discard.Header) error {
		return a.say("%s  %s: %s", name, h.At.Format(time.RFC3339), h.Reason)
	}, func(m discard.Image) error {
		blocks++
		if m.Volume == volume && m.Block == next && next != first {
			next++
			return nil
		}
		err := flush()
		volume, first, next = m.Volume, m.Block, m.Block+1
		return err
	})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	return a.say("  %d blocks of 4 KiB", blocks)
}

// export writes the image of one volume.
func (a *app) export(resource, name string, volume uint16, to string) (err error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &control.Error{What: to, Text: err.Error(), Hint: "name a file that is not there yet", Exit: control.ExitUsage}
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = os.Remove(to) // a part of it would be taken for all
		}
	}()
	blocks := 0
	err = a.eachKept(resource, name, func(h discard.Header) error {
		i := slices.IndexFunc(h.Volumes, func(v discard.Volume) bool { return v.Number == volume })
		if i < 0 {
			return &control.Error{What: resource, Text: fmt.Sprintf("there was no volume %d", volume), Exit: control.ExitUsage}
		}
		return out.Truncate(h.Volumes[i].Size)
	}, func(m discard.Image) error {
		if m.Volume != volume {
			return nil
		}
		blocks++
		data := m.Data
		if len(data) == 0 {
			data = make([]byte, block.Size) // data that was zeroes, not a hole where nothing was given up
		}
		_, err := out.WriteAt(data, int64(m.Block)*block.Size)
		return err
	})
	if err != nil {
		return err
	}
	return a.say("%d blocks of 4 KiB of volume %d are in %s", blocks, volume, to)
}
