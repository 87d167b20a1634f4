package verb

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) journal() *cobra.Command {
	return family("journal", groupData, "Look into the journal of a resource", "", "  drship journal export --file r0.trace r0", a.journalExport())
}

// journalExport records a trace. The file is the daemon's to write, so that its path has to be absolute when it arrives.
func (a *app) journalExport() *cobra.Command {
	cmd := a.command(request{
		verb:  "journal-export",
		short: "Record the writes that a journal holds, with their data, in a file",
		long: "Writes every record from the start of the journal to its end, in write order, to a new file on this node: a trace, with which the bytes that " +
			"shipping takes can be measured (docs/format.md). With --for it goes on with what is written meanwhile. What the peers have applied is not in the journal " +
			"any more: disconnect them before what is to be recorded begins. The file holds the data of the volumes: keep it as safe as them.",
		example: "  drship disconnect r0 && drship journal export --file r0.trace --new --for 300 r0",
		flags: func(fs *pflag.FlagSet) {
			fs.String("file", "", "`PATH` of the trace; it must not exist yet")
			fs.Uint("for", 0, "`SECONDS` to go on for; below 600")
			yesNo(fs, "new", "", false, "leave out what the journal holds already")
		},
		check:   checkExport,
		offline: true,
	})
	cmd.Use, cmd.GroupID = "export --file PATH RES", ""
	return cmd
}

func checkExport(o map[string]string) error {
	if o["file"] == "" {
		return errors.New("--file is missing")
	}
	if n := o["for"]; len(n) > 3 || len(n) == 3 && n >= "600" {
		return fmt.Errorf("--for %s: below 600", n)
	}
	path, err := filepath.Abs(o["file"])
	if err != nil {
		return fmt.Errorf("--file %s: %w", o["file"], err)
	}
	o["file"] = path
	return nil
}
