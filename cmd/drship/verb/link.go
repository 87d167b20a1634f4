package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// link is what tells of the links to peers, and measures them.
func (a *app) link() *cobra.Command {
	status := a.command(request{
		verb:  "link-status",
		short: "Show round trip, loss, connections, rates and bytes of the links",
		long: "Shows, for the link to each peer: round trip, loss, how many connections the session is spread over, how fast data is delivered, what may be on its " +
			"way, the ceiling, and the bytes sent, by kind, since the session came up.",
		example: "  drship link status all\n  drship link status --json r0",
		flags:   func(fs *pflag.FlagSet) { yesNo(fs, "json", "", false, "print JSON, a line for each peer") },
	})
	status.Use, status.GroupID = "status {all|RES|RES:PEER}...", ""
	probe := a.command(request{
		verb:    "link-probe",
		short:   "Measure round trip and loss of a link that is up",
		long:    "Sends 20 pings in two seconds, beside whatever else the link carries, and says what one connection carries with the loss seen, and how many a ceiling takes. The rate of resyncs is measured anew, as soon as one runs.",
		example: "  drship link probe r0",
	})
	probe.Use, probe.GroupID = "probe {all|RES|RES:PEER}...", ""
	return family("link", groupLook, "Show or measure the links to the peers", "", "  drship link status r0\n  drship link probe r0:bob", status, probe)
}
