// Package nbd serves volumes by the Network Block Device protocol: fixed newstyle negotiation, then transmission
// with simple or structured replies. It is built on the message types of go-nbd's protocol package and adds the
// constants that package lacks.
//
// A connection goes through these stages:
//
//  1. Server.Serve accepts it, inside Config.MaxConnections.
//  2. negotiate haggles options until the client picks an export; Config.HandshakeTimeout bounds the whole stage.
//  3. session.run starts one worker. A worker that holds the reading role takes one request from the socket,
//     gives the role to another worker, and serves the request itself: no queue stands between reading and
//     serving, and a request that waits for a slow backend holds up no other. Requests of a fast export are served
//     before the role is given away, under a guard (role.go).
//  4. Replies go through replyWriter: whoever finds it free writes its own reply and all that gathered meanwhile.
//  5. NBD_CMD_DISC, a lost connection or the end of the server's context end the session; it returns after the
//     last request in flight was answered, and only then releases the export.
//
// Bounds: connections (Config.MaxConnections), requests of one connection (Config.MaxInFlight, also the number of
// its workers), payload bytes of all connections (Config.MaxBytesInFlight), the length of one payload (MaxPayload), of
// one option (maxOption) and the number of options (maxOptions). Nothing is allocated for a length that was not checked.
package nbd
