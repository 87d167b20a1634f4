// Package config reads DRBD's configuration language, in the dialects of 0.7, 8.3, 8.4 and 9, with drship's own
// sections journal and wan.
//
// The way of a file: lex.go cuts it into tokens with positions, parse*.go reads the grammar into what was written
// (Written: settings a section, level by level), table*.go say what each option means (kind, default, range, class,
// where its value goes), resolve.go lays the levels over one another and fills the typed sections, check.go holds
// the result against DRBD's rules. dump.go and dumpxml.go print what was written, under the names of today.
//
// Inheritance, weakest first: default, common, template-file, resource, host, volume of the resource, volume of the host.
// For a connection: default, common, template-file, resource, connection.
//
// Everything is bounded: size of a file and of all files, depth and number of includes, number of errors, nesting.
package config
