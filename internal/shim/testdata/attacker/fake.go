package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bermhq/berm/internal/shim/wire"
)

// fakeInit speaks in the init's place: what a process could do that got hold of its socket after all.
func fakeInit(how string) {
	conn, err := net.FileConn(os.NewFile(3, "shim"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if how == "garbage" {
		for {
			if _, err := conn.Write([]byte("this is no yamux frame at all, and never will be one")); err != nil {
				return
			}
		}
	}
	session, err := yamux.Server(conn, wire.MuxConfig())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if how == "opens" {
		go open(session)
	}
	raw = conn
	for {
		s, err := session.AcceptStream()
		if err != nil {
			return
		}
		go lie(s, how)
	}
}

// raw is the connection below the session.
var raw net.Conn

// spam sends one yamux frame without end, and takes nothing.
func spam(kind byte, flags uint16, stream uint32, content int) {
	frame := []byte{0, kind, byte(flags >> 8), byte(flags), 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(frame[4:], stream)
	binary.BigEndian.PutUint32(frame[8:], uint32(content))
	frame = bytes.Repeat(append(frame, make([]byte, content)...), 64)
	for {
		if _, err := raw.Write(frame); err != nil {
			return
		}
	}
}

// filled is closed when open has done what it could.
var filled = make(chan struct{})

// open makes requests of its own, and sends as much with each as may be on the way.
func open(session *yamux.Session) {
	defer close(filled)
	for range 200 {
		s, err := session.OpenStream()
		if err != nil {
			return
		}
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := s.Write(make([]byte, 256<<10)); err != nil {
			return
		}
	}
}

// lie answers a request: well as long as the sandbox starts, then as asked for.
func lie(s *yamux.Stream, how string) {
	r := wire.NewReader(s)
	f, err := r.Read()
	if err != nil {
		return
	}
	var req wire.Request
	_ = f.Decode(&req)
	switch req.Op {
	case wire.OpMain:
		_ = wire.WriteJSON(s, wire.TypeStarted, wire.Started{PID: 2})
		if how == "liar" { // The main process has ended, it says. It has not: this is process 1.
			_ = wire.WriteJSON(s, wire.TypeExit, wire.Exit{Code: 0})
		}
		if how == "quits" {
			os.Exit(0)
		}
		time.Sleep(time.Hour)
	case wire.OpExec, wire.OpReadFile, wire.OpWriteFile:
		misbehave(s, how, req.Op)
	default:
		if how != "deaf" || req.Op == wire.OpSetup {
			_ = wire.Write(s, wire.TypeOK, nil)
		}
	}
	s.Close()
}

func misbehave(s *yamux.Stream, how string, op wire.Op) {
	first := wire.TypeOK
	if op == wire.OpExec {
		first = wire.TypeStarted
	}
	switch how {
	case "huge":
		var h [wire.HeaderSize]byte
		wire.PutHeader(h[:], wire.TypeError, 1<<30)
		_, _ = s.Write(h[:])
	case "huge later":
		_ = wire.Write(s, first, nil)
		var h [wire.HeaderSize]byte
		wire.PutHeader(h[:], wire.TypeStdout, 1<<31)
		_, _ = s.Write(h[:])
	case "wrong type":
		_ = wire.Write(s, wire.TypeRequest, []byte("{}"))
	case "unknown type":
		_, _ = s.Write([]byte{0, 0, 0, 0, 200, 0, 0, 0})
	case "credit":
		_ = wire.Write(s, first, nil)
		for range 100 {
			_, _ = s.Write(wire.AppendUint32(nil, wire.TypeCredit, 1<<31))
		}
	case "two exits":
		_ = wire.Write(s, first, nil)
		_ = wire.WriteJSON(s, wire.TypeExit, wire.Exit{Code: 5})
		_ = wire.WriteJSON(s, wire.TypeExit, wire.Exit{Code: 6})
	case "no exit":
		_ = wire.Write(s, first, nil)
	case "flood":
		_ = wire.Write(s, first, nil)
		data := make([]byte, wire.MaxData)
		for wire.Write(s, wire.TypeStdout, data) == nil && wire.Write(s, wire.TypeData, data) == nil {
		}
	case "bad json":
		_ = wire.Write(s, first, []byte(`{"pid": "not a number`))
	case "opens":
		<-filled
	case "pings":
		spam(2, 1, 0, 0)
	case "updates":
		spam(1, 0, s.StreamID(), 0)
	case "empties":
		spam(0, 0, s.StreamID(), 0)
	case "farewells":
		spam(3, 0, 0, 0)
	case "strays":
		spam(0, 0, 1<<20+1, 100)
	case "deaf", "liar":
		time.Sleep(time.Hour)
	}
}
