"""The one entry that command line and reports call: a method, a network and pictures in, a result out."""
