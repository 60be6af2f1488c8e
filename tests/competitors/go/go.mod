module competitors

go 1.19
