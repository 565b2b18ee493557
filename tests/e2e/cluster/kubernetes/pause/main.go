// Command pause holds a pod's namespaces until it is told to end.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	// Orphans of a pod that shares its PID namespace come here; nobody waits for them.
	signal.Ignore(syscall.SIGCHLD)
	<-end
}
