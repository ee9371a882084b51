// SPDX-License-Identifier: MIT

// Made by contrib/protocol of src/wire/messages.table.

package fixd

const (
	wireVersion    = 8
	wireVersionMin = 5
	messageMax     = 8192
	fdsMax         = 64
	nameMax        = 255
	keyMax         = 2048
	envMax         = 4096
	dependsMax     = 64
	rootMax        = 4095
	runMax         = 100
	testMax        = 500
	lineMax        = 500
	settingsMax    = 7168
	patternsMax    = 4096
	sentenceMax    = 4096
	boardSlots     = 16384
)

const (
	typeHello    = 1
	typeJoin     = 2
	typeAttach   = 16
	typeDetach   = 17
	typeDefine   = 18
	typeRelease  = 19
	typeClosing  = 20
	typeAdopt    = 21
	typeTest     = 22
	typeChanged  = 23
	typeUsed     = 24
	typeRelocate = 25
	typeStatus   = 32
	typeList     = 33
	typeLog      = 34
	typeEvents   = 35
	typeKey      = 36
	typeCleanup  = 48
	typeReload   = 49
	typeStop     = 50
	typeRestart  = 51
)

const (
	headerSize = 16
	imageSize  = 72
)
