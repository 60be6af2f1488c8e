// UDP in Go: one loop over ReadFrom and WriteTo of a net.PacketConn, as on the page of package net.
// The buffer holds every datagram.
package main

import (
	"log"
	"net"
	"os"
)

func main() {
	conn, err := net.ListenPacket("udp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 65535)
	for {
		n, client, err := conn.ReadFrom(buf)
		if err != nil {
			log.Print(err)
			continue
		}
		for i, c := range buf[:n] {
			if 'a' <= c && c <= 'z' {
				buf[i] = c - 'a' + 'A'
			}
		}
		if _, err := conn.WriteTo(buf[:n], client); err != nil {
			log.Print(err)
		}
	}
}
