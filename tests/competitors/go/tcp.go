// TCP in Go: a goroutine per connection, after the example of Listener on the page of package net,
// which ends on an error of Accept. Go sets TCP_NODELAY; for the benchmark, the buffer has
// 64 KiB or, in bytes, the second argument.
package main

import (
	"log"
	"net"
	"os"
	"strconv"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	size := 65536
	if len(os.Args) > 2 {
		size, _ = strconv.Atoi(os.Args[2])
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn, size)
	}
}

func serve(conn net.Conn, size int) {
	defer conn.Close()
	buf := make([]byte, size)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for i, c := range buf[:n] {
			if 'a' <= c && c <= 'z' {
				buf[i] = c - 'a' + 'A'
			}
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}
