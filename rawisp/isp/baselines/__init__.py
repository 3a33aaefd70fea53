"""The learned ISPs that papers compare with, one file each."""
